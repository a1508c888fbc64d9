"""Features: what an extractor's network makes of images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.images import Images
from ddpm.compute.distributed import ALONE, Ranks


class Features(NamedTuple):
    """A network's output for B images, float32: ``features`` (B, D), and ``logits`` (B, K) of its K classes, if any."""

    features: Tensor
    logits: Tensor


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
