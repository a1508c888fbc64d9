"""Feature extractors: scores compare their features instead of pixels.

Contract: a variant makes its weights once, in the reference stage, as one safetensors file, and loads such a file as a
network from uint8 images to features. torch-fidelity's metrics are functions of those features.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.images import Images
from ddpm.base.variant import Variant, variant_class
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.scoring.published import Published


class Features(NamedTuple):
    """A network's output for B images, float32: ``features`` (B, D), and ``logits`` (B, K) of its K classes, if any."""

    features: Tensor
    logits: Tensor


class Trial(NamedTuple):
    """What a forecast times of an extractor whose weights are not made yet: a network of the same cost, and the
    ``steps`` of its fitting, 0 if it is not fitted, which ``fit`` takes."""

    network: nn.Module
    steps: int = 0
    fit: Iterator[None] = iter(())


class Extractor(Variant, ABC):
    """Contract of an extractor.

    dimensions: D, the number of features. channels: the counts that an image may have; None: any. frechet: the name of
    its Fréchet distance; only Inception's is called FID. has_logits: whether it tells classes apart, as the Inception
    Score needs; else K is 0. knows_classes: whether its logits are of the dataset's own classes, in order. published:
    the file that its weights come from; None: they are made here.
    """

    dimensions: ClassVar[int]
    channels: ClassVar[tuple[int, ...] | None] = None
    frechet: ClassVar[str] = "fd"
    has_logits: ClassVar[bool] = True
    knows_classes: ClassVar[bool] = False
    published: ClassVar[Published | None] = None

    @abstractmethod
    def write_weights(self, processed: Path, path: Path, device: torch.device) -> None:
        """Write the weights for the dataset in ``processed`` to ``path``. Raises UserError if there can be none."""

    @abstractmethod
    def load(self, weights: Path) -> nn.Module:
        """The network in eval mode: uint8 (B, C, H, W) to Features."""

    def trial(self, dataset: str, some: Images, classes: int, images: int, device: torch.device) -> Trial | None:
        """A trial on ``some`` images like the dataset's, which has ``images`` of so many classes to train on. None if
        the network cannot be had without its published weights."""
        return None


def get(name: str) -> Extractor:
    """The extractor called ``name``, one of ``variants.names("extractors")``."""
    return cast(Extractor, variant_class("extractors", name)())


def extract(
    network: nn.Module, images: Images, batch_size: int, device: torch.device, ranks: Ranks = ALONE
) -> Features:
    """The features of all images, (N, D) and (N, K) on the CPU, in the images' order. Each rank processes a share of
    the batches, and every rank gets the whole.

    Always in full float32 (no TF32) and with cuDNN's deterministic kernels, so that a score is a function of its
    inputs. Shows a progress bar if it takes longer than a second.
    """
    network = network.to(device)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    shares = ranks.shares(len(batches))
    own = batches[shares[ranks.rank]] or [images[:1]]  # a rank without a batch needs one image for the shapes
    parts = []
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
        progress.bar(len(own), "features", "batch", shown=ranks.main, brief=True) as bar,
    ):
        for batch in own:
            parts.append([part.cpu() for part in network(torch.from_numpy(np.array(batch)).to(device))])
            bar.update()
    counts = [sum(map(len, batches[share])) for share in shares]
    whole = (torch.cat(part)[: counts[ranks.rank]] for part in zip(*parts, strict=True))
    return Features(*(ranks.join(part, counts) for part in whole))
