"""Feature extractors: scores compare their features instead of pixels.

Contract: a variant makes its weights once, in the reference stage, as one safetensors file, and loads such a file as a
network from uint8 images to features. torch-fidelity's metrics are functions of those features. What a variant declares
is read without torch: its network is in ``ddpm/scoring/networks/<name>_network.py``, and its methods import that.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, cast

from ddpm.base.tensor import Device, Module
from ddpm.base.variant import Variant, variant_class
from ddpm.scoring.weights import PublishedWeights


class Extractor(Variant, ABC):
    """Contract of an extractor.

    dimensions: D, the number of features. channels: the counts that an image may have; None: any. frechet: the name of
    its Fréchet distance; only Inception's is called FID. resizer: how an image gets to the size that the network sees,
    in words. has_logits: whether it tells classes apart, as the Inception Score needs; else K is 0. knows_classes:
    whether its logits are of the dataset's own classes, in order. published: the file that its weights come from; None:
    they are made here.
    """

    dimensions: ClassVar[int]
    channels: ClassVar[tuple[int, ...] | None] = None
    frechet: ClassVar[str] = "fd"
    resizer: ClassVar[str] = "none"
    has_logits: ClassVar[bool] = True
    knows_classes: ClassVar[bool] = False
    published: ClassVar[PublishedWeights | None] = None

    @abstractmethod
    def write_weights(self, processed: Path, path: Path, device: Device) -> None:
        """Write the weights for the dataset in ``processed`` to ``path``. Raises UserError if there can be none."""

    @abstractmethod
    def load(self, weights: Path) -> Module:
        """The network in eval mode: uint8 (B, C, H, W) to Features."""


def get(name: str) -> Extractor:
    """The extractor called ``name``, one of ``variants.names("extractors")``."""
    return cast(Extractor, variant_class("extractors", name)())


def is_installed(name: str) -> bool:
    """Whether the weights of extractor ``name`` are on this machine, or need not be."""
    published = get(name).published
    return published is None or published.location.exists()
