"""The diffusion transformer against published parameter counts and against diffusers with the same weights."""

import torch
from diffusers import DiTTransformer2DModel

from ddpm.base.sections import Shape
from ddpm.variants.networks._dit import positions
from ddpm.variants.networks.dit import DiT


def test_diffusers_network_gives_the_same_output_from_the_same_weights():
    torch.manual_seed(0)
    shape = DiT(patch_size=2, depth=2, width=24, heads=3)
    ours = shape.network(Shape(3, 8, 8), 6).eval()
    sizes = {"in_channels": 3, "out_channels": 6, "num_layers": 2, "sample_size": 8, "num_attention_heads": 3}
    theirs = DiTTransformer2DModel(**sizes, attention_head_dim=8, num_embeds_ada_norm=1, norm_eps=1e-6).eval()
    torch.testing.assert_close(ours.positions, theirs.pos_embed.pos_embed[0].float(), rtol=1e-5, atol=1e-6)
    embedding = theirs.transformer_blocks[0].norm1.emb
    pairs = [
        (ours.patches, theirs.pos_embed.proj), (ours.time[0], embedding.timestep_embedder.linear_1),
        (ours.time[2], embedding.timestep_embedder.linear_2), (ours.modulation, theirs.proj_out_1),
        (ours.head, theirs.proj_out_2),
    ]  # fmt: skip
    for block, other in zip(ours.blocks, theirs.transformer_blocks, strict=True):
        other.norm1.emb = embedding  # theirs has one embedding per block, the paper one for all
        attention = other.attn1
        pairs += [
            (block.out, attention.to_out[0]), (block.mlp[0], other.ff.net[0].proj), (block.mlp[2], other.ff.net[2]),
            (block.modulation, other.norm1.linear),
        ]  # fmt: skip
        parts = (attention.to_q, attention.to_k, attention.to_v)
        block.qkv.load_state_dict(
            {kind: torch.cat([getattr(part, kind) for part in parts]) for kind in ("weight", "bias")}
        )
    for layer, other in pairs:
        layer.load_state_dict(other.state_dict())
    with torch.no_grad():
        torch.nn.init.zeros_(embedding.class_embedder.embedding_table.weight)
        # theirs puts the cosines first
        ours.time[0].weight.copy_(ours.time[0].weight.roll(128, dims=1))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 999])
    expected = theirs(x, t, class_labels=torch.zeros(2, dtype=torch.long)).sample
    torch.testing.assert_close(ours(x, t), expected, rtol=1e-4, atol=1e-5)


def test_a_patchs_position_is_its_own_column_and_row():
    """As in the square, which diffusers has too."""
    square = positions(5, 5, 12).view(5, 5, 12)
    for rows, columns in ((1, 2), (3, 5), (5, 3)):
        assert torch.equal(positions(rows, columns, 12).view(rows, columns, 12), square[:rows, :columns])
