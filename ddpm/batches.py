"""The training set on the device, and which of its images each step sees."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ddpm import noise
from ddpm.diffusion import from_images
from ddpm.noise import stream_seed


class Batches:
    """The whole dataset as one uint8 tensor on the device; a batch is a gather, a flip and a scale there.

    Image order is an endless chain of shuffled epochs; step s takes its next ``batch_size`` places, whatever ran
    before: a function of (seed, s) needs no state to resume.
    """

    def __init__(self, images: np.ndarray, batch_size: int, seed: int, flip: bool, device: torch.device):
        self.images = torch.from_numpy(np.array(images)).to(device)  # a copy: the file is mapped read-only
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.place = torch.arange(batch_size, device=device)
        self.epoch = lru_cache(maxsize=2)(self._shuffled)

    def __call__(self, step: int) -> Tensor:
        """(B, C, H, W) float32 in [-1, 1] for step 1, 2, ..."""
        x = from_images(self.images[self._indices(step).to(self.images.device, non_blocking=True)])
        if self.flip:
            flipped = noise.uniform(self.seed, "flip", self.place, step) < 0.5
            x = torch.where(flipped[:, None, None, None], x.flip(3), x)
        return x

    def _indices(self, step: int) -> Tensor:
        size = len(self.images)
        first, end = (step - 1) * self.batch_size, step * self.batch_size
        parts = []
        for epoch in range(first // size, (end - 1) // size + 1):
            start = epoch * size
            parts.append(self.epoch(epoch)[max(first - start, 0) : end - start])
        return torch.cat(parts)

    def _shuffled(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "order", epoch))
        return torch.randperm(len(self.images), generator=generator)
