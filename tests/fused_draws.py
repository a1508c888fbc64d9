"""Checks ``noise.fused``: in a process of its own, as what others imported can keep torch from compiling."""

from __future__ import annotations

import torch
from torch._dynamo.utils import counters

from ddpm.compute import noise


def main() -> None:
    draw, index = noise.fused(), torch.arange(9)
    streams = noise.streams(3, ["a", "b"], torch.device("cpu"))
    for step in (1, 2, 2**32 - 1):
        assert torch.equal(noise.gaussian(0, "a", index, step, (7,), draw), noise.gaussian(0, "a", index, step, (7,)))
        assert torch.equal(noise.uniform(0, "b", index, step, draw), noise.uniform(0, "b", index, step))
        assert torch.equal(noise.words(streams, index, step, draw), noise.words(streams, index, step))
        assert counters["stats"]["unique_graphs"] == 3


if __name__ == "__main__":
    main()
