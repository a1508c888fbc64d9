"""The training set on the device, and which of its images each step sees."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm.base.images import Images
from ddpm.compute import devices
from ddpm.compute.noise import stream_seed
from ddpm.diffusion.chain import from_images


@dataclass(eq=False)
class Batches:
    """The dataset, uint8, and batches of it: a gather, a flip and a scale.

    A GPU gets a copy of it unless that takes more than half of its free memory, and each rank has its own GPU: NCCL
    refuses two ranks on one. Otherwise batches are read from the memory-mapped file, so that all ranks share its pages:
    on a CPU, copying it first makes no batch faster, and a GPU still computes the last step while the host reads.

    Images come in an endless chain of shuffled epochs, and step s takes the s-th run of ``batch_size`` of them: a
    function of (seed, s) needs no state to resume. Only this rank's ``part`` of a batch is read. ``classes``: (N,)
    int64, the images' own.
    """

    images: Images
    batch_size: int
    seed: int
    device: torch.device
    part: slice = field(default_factory=lambda: slice(None))
    classes: np.ndarray | None = None

    def __post_init__(self) -> None:
        copied = self.device.type != "cpu" and self.images.nbytes < devices.free_memory(self.device) / 2
        self.on_device = torch.from_numpy(np.array(self.images)).to(self.device) if copied else None
        self.epoch = lru_cache(maxsize=2)(self._shuffle)

    def __call__(self, step: int, mirrored: Tensor | None = None, shift: int = 0) -> Tensor:
        """(B, C, H, W) float32 in [-1, 1], ``part`` of the batch of step 1, 2, ...; mirrored: (B,) bool. shift: so many
        places on in the whole batch, whose first follows its last."""
        indices = self._indices(step, shift)
        if self.on_device is not None:
            x = self.on_device[self._pin(indices).to(self.device, non_blocking=True)]
        else:
            x = self._pin(self._from_file(indices.numpy())).to(self.device, non_blocking=True)
        if mirrored is not None:
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        return from_images(x)

    def labels(self, step: int) -> Tensor | None:
        """(B,) int64, the classes of the images of that call; None without ``classes``."""
        if self.classes is None:
            return None
        labels = torch.from_numpy(self.classes)[self._indices(step)]  # no copy of the whole: it may be a file
        return self._pin(labels).to(self.device, non_blocking=True)

    def _from_file(self, indices: NDArray[np.int64]) -> Tensor:
        order = np.argsort(indices)  # so that the disk is read forwards
        batch = np.empty((len(indices), *self.images.shape[1:]), np.uint8)
        batch[order] = self.images[indices[order]]
        return torch.from_numpy(batch)

    def _pin(self, tensor: Tensor) -> Tensor:
        """For a GPU, in page-locked memory: only from there can a copy run while the host goes on."""
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _indices(self, step: int, shift: int = 0) -> Tensor:
        size = len(self.images)
        first, end = (step - 1) * self.batch_size, step * self.batch_size
        parts = []
        for epoch in range(first // size, (end - 1) // size + 1):
            start = epoch * size
            parts.append(self.epoch(epoch)[max(first - start, 0) : min(end - start, size)].long())
        return torch.cat(parts).roll(-shift)[self.part]

    def _shuffle(self, epoch: int) -> Tensor:
        """4 bytes an image: torch draws the same permutation in any type."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "order", epoch))
        return torch.randperm(len(self.images), generator=generator, dtype=torch.int32)
