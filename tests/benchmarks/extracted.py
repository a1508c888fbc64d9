"""``python -m tests.benchmarks.extracted STAGE``: run a stage, then print how many real images extractors saw.

Images of the train split count. Each is recognised by its bytes, in whatever order, batch or file it comes.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm.base.paths import PROCESSED
from ddpm.data.processed import open_split
from stages import __main__ as runner


class Seen:
    """A forward pre-hook of all modules that counts the images of ``real``, (N, C, H, W) uint8, among their inputs."""

    def __init__(self, real: NDArray[np.uint8]):
        self.real = {image.tobytes() for image in real}
        self.count = 0

    def __call__(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        # only an extractor takes bytes, and only in its outermost module
        if arguments and isinstance(arguments[0], Tensor) and arguments[0].dtype == torch.uint8:
            self.count += sum(image.tobytes() in self.real for image in arguments[0].cpu().numpy())


def main(stage: str) -> None:
    images, _ = open_split(PROCESSED, "train")
    seen = Seen(images)
    nn.modules.module.register_module_forward_pre_hook(seen)
    try:
        runner.run(stage)
    except SystemExit as end:
        if end.code:
            raise
    print(seen.count)


if __name__ == "__main__":
    main(sys.argv[1])
