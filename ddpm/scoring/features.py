"""Features: what an extractor's network makes of images; and those of the real ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.images import Images
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.frechet import Distance
from ddpm.scoring.memorisation import Nearest


class Features(NamedTuple):
    """A network's output for B images, float32: ``features`` (B, D), and ``logits`` (B, K) of its K classes, if any."""

    features: Tensor
    logits: Tensor


@dataclass(frozen=True, eq=False)
class RealFeatures:
    """One extractor, and its features of the real images. device: where they are compared with those of samples.

    features: (N, D) float32, of the train images that metrics of pairs look at, all or ``distances.rows`` of them; mu,
    sigma: (D,) and (D, D), the mean and covariance of the whole train split, as ``frechet.statistics`` has them;
    held_out: of the test split, or a part of it, likewise; nearest: the one of ``features`` nearest to each of
    those; around: (N, k), the squared distances of ``features`` to the k nearest others of each, nearest first, where k
    is evaluate.prc_neighborhood.
    """

    extractor: Extractor
    device: torch.device
    network: nn.Module
    features: Tensor
    mu: NDArray[np.floating]
    sigma: NDArray[np.float64]
    held_out: Features
    nearest: Nearest
    around: Tensor
    yardsticks: dict[str, Features]

    @property
    def apart(self) -> NDArray[np.float64]:
        """(N,), the distance of each of ``features`` to its nearest other."""
        return self.around[:, 0].double().sqrt().numpy()

    @cached_property
    def distance(self) -> Distance:
        """The Fréchet distance to the train split."""
        return Distance(self.mu, self.sigma, self.device)


def extract(
    network: nn.Module, images: Images, batch_size: int, device: torch.device, ranks: Ranks = ALONE
) -> Features:
    """The features of all images, (N, D) and (N, K) on the CPU, in the images' order. Each rank processes a share of
    the batches, and every rank gets the whole.

    Always in full float32 and, with a device of ``devices.resolve``, by deterministic kernels, so that a score is a
    function of its inputs. Shows a progress bar if it takes longer than a second.
    """
    network = network.to(device)
    batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    shares = ranks.shares(len(batches))
    share = batches[shares[ranks.rank]] or [images[:1]]  # a rank without a batch needs one image for the shapes
    parts = []
    with (
        torch.inference_mode(),
        progress.bar(len(share), "features", "batch", shown=ranks.main, brief=True) as bar,
    ):
        for batch in share:
            parts.append([part.cpu() for part in network(torch.from_numpy(np.array(batch)).to(device))])
            bar.update()
    counts = [sum(map(len, batches[share])) for share in shares]
    whole = (torch.cat(part)[: counts[ranks.rank]] for part in zip(*parts, strict=True))
    return Features(*(ranks.join(part, counts) for part in whole))


@contextmanager
def fitting(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from torch's generator as after ``seed``, and leave it as it was. Use one thread, because the order in which
    threads sum gradients changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # by default fork_rng starts CUDA on all GPUs
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
