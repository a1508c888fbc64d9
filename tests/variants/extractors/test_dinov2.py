"""The vision transformer against a second one in float64, of torch's own attention and a bicubic filter by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.scoring.networks.dinov2_network import TransformerShape, VisionTransformer

WIDTH, DEPTH, HEADS = 24, 2, 3


def cubic(x: float) -> float:
    """Keys' kernel with a = -0.75, that of torch's bicubic interpolation."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resizing(new: int, old: int) -> Tensor:
    """(new, old): DINOv2 shrinks the grid by (new + 0.1) / old instead of new / old."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for row in range(new):
        at = (row + 0.5) * old / (new + 0.1) - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights[row, min(max(tap, 0), old - 1)] += cubic(at - tap)
    return weights


@torch.no_grad()
def by_the_book(state: dict[str, Tensor], made: TransformerShape, pixels: Tensor) -> Tensor:
    """The network in float64 from torch's own attention, with none of the code under test."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    patches = F.conv2d(pixels.double(), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], made.patch)
    new = patches.shape[-1]
    grid = state["pos_embed"][0, 1:].view(made.grid, made.grid, -1)
    if new != made.grid:
        weights = resizing(new, made.grid)
        grid = torch.einsum("ai,bj,ijc->abc", weights, weights, grid)
    first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(pixels), -1, -1)
    x = torch.cat([first, patches.flatten(2).mT + grid.flatten(0, 1)], dim=1)
    for i in range(made.depth):
        block = f"blocks.{i}"
        attention = nn.MultiheadAttention(made.width, made.heads, batch_first=True, dtype=torch.float64)
        names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
        names |= {"out_proj.weight": "proj.weight", "out_proj.bias": "proj.bias"}
        attention.load_state_dict({theirs: state[f"{block}.attn.{ours}"] for theirs, ours in names.items()})
        seen = norm(f"{block}.norm1", x)
        x = x + state[f"{block}.ls1.gamma"] * attention(seen, seen, seen)[0]
        hidden = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        x = x + state[f"{block}.ls2.gamma"] * linear(f"{block}.mlp.fc2", nn.GELU()(hidden))
    return norm("norm", x[:, 0])


@pytest.mark.parametrize("side", [2, 3])
def test_a_transformer_is_that_of_the_paper(side):
    made = TransformerShape(WIDTH, DEPTH, HEADS, patch=4, grid=3)
    torch.manual_seed(0)
    network = VisionTransformer(made).eval()
    state = {name: torch.randn(tensor.shape) * 0.4 for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    pixels = torch.randn(3, 3, 4 * side, 4 * side)

    found = network(pixels).features.detach()

    torch.testing.assert_close(found.double(), by_the_book(state, made, pixels), rtol=1e-4, atol=1e-4)
