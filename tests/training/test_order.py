"""The order of images: torch's permutation of each epoch, wherever the images are read from."""

import numpy as np
import pytest
import torch

from ddpm.compute.noise import stream_seed
from ddpm.training.batches import Batches

CPU = torch.device("cpu")


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("part", [slice(None), slice(2, 5)])
def test_each_image_comes_once_an_epoch(resident, part):
    """The same on any number of ranks, from a file or memory, and as after a resume; classes go with their images."""
    batches = Batches(np.arange(50, dtype=np.uint8)[:, None, None, None], 8, 3, CPU, part, resident, np.arange(50))
    generators = (torch.Generator().manual_seed(stream_seed(3, "order", epoch)) for epoch in range(3))
    order = torch.cat([torch.randperm(50, generator=generator) for generator in generators])
    for step in (1, 2, 7, 5, 6, 13):  # the seventh and the thirteenth are of two epochs
        expected = order[(step - 1) * 8 : step * 8][part].tolist()
        assert ((batches(step).flatten() + 1) * 127.5).round().long().tolist() == expected
        labels = batches.labels(step)
        assert labels.tolist() == expected
