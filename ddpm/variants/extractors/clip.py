"""CLIP ViT-L/14 at 336 pixels (Radford et al. 2021, arXiv:2103.00020): features that describe a picture in words.

The embeddings of length 1 that CMMD is defined on (Jayasumana et al. 2024, arXiv:2401.09603).
Weights: OpenAI, MIT, a 1.7 GB file of which the image half is kept. Made for GPUs: an image takes 380 GFLOP.
"""

import itertools
from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.scoring.pretrained import View
from ddpm.scoring.vision_transformer import TransformerExtractor, TransformerShape
from ddpm.scoring.weights import PublishedWeights


class Clip(TransformerExtractor):
    dimensions = 768
    view = View(336, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    architecture = TransformerShape(
        width=1024, depth=24, heads=16, grid=24, eps=1e-5, scaled=False, clip=True, projection=768
    )
    published = PublishedWeights(
        title="CLIP ViT-L/14@336px",
        url="https://huggingface.co/openai/clip-vit-large-patch14-336/resolve/"
        "ce19dc912ca5cd21c8a653c79e251e808ccabcd1/pytorch_model.bin",
        sha256="c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
        file="clip-vit-large-patch14-336.bin",
    )
    names: ClassVar = {  # Hugging Face's -> ours
        r"^visual_projection\.": "projection.",
        r"^vision_model\.": "",
        r"^embeddings\.class_embedding$": "cls_token",
        r"^embeddings\.position_embedding\.weight$": "pos_embed",
        r"^embeddings\.patch_embedding\.": "patch_embed.proj.",
        r"^pre_layrnorm\.": "pre_norm.",
        r"^post_layernorm\.": "norm.",
        r"^encoder\.layers\.": "blocks.",
        r"\.layer_norm([12])\.": r".norm\1.",
        r"\.self_attn\.out_proj\.": ".attn.proj.",
    }

    def renamed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        import torch

        tensors = super().renamed(state)
        tensors |= {"cls_token": tensors["cls_token"][None, None], "pos_embed": tensors["pos_embed"][None]}
        for block, kind in itertools.product(range(self.architecture.depth), ("weight", "bias")):
            parts = [tensors[f"blocks.{block}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
        return tensors
