"""The averages of a training's weights, and the files of them that it leaves on its way."""

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ddpm.base.files import digest
from ddpm.base.paths import AVERAGES, SNAPSHOTS
from ddpm.model import posthoc
from ddpm.model.averages import write_snapshot
from ddpm.model.model_file import save_model
from ddpm.training.ema import EMA
from ddpm.training.train_params import TrainingConfig


class Averages:
    """Averages of a network's weights, float32 by name. shipped: by ``train.ema``. posthoc: those of ``train.posthoc``,
    of the first length under ``0.NAME``, of the second under ``1.NAME``; none without it.

    Their files are kept next to the checkpoints until the training ends: DVC removes a stage's outs before it runs the
    stage again. A training that resumes before a file's step makes it again, with the same bytes.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig, total: int):
        """total: steps of the whole training."""
        self.config, options = config, config.train.posthoc
        gammas = [posthoc.exponent(length) for length in options.lengths] if options else []
        self.emas = [EMA(network, config.train.ema.decay)]
        self.emas += [EMA(network, partial(posthoc.decay, gamma)) for gamma in gammas]
        self.shipped, *others = (ema.averages for ema in self.emas)
        self.posthoc: dict[str, Tensor] = {}
        for number, averages in enumerate(others):
            self.posthoc |= {f"{number}.{name}": average for name, average in averages.items()}
        self.images = config.train.earlier(total)
        self.steps = options.steps(total) if options else []

    def update(self, step: int) -> None:
        """Add the weights after optimizer step ``step`` (1, 2, ...)."""
        for ema in self.emas:
            ema.update(step)

    def keep(self, step: int, folder: Path, facts: dict[str, Any]) -> None:
        """Write to ``folder`` what is due after ``step``: the model for ``train.snapshots``, in a file that is named by
        the images seen so far, such as 0016000.safetensors, and the averages for ``train.posthoc``."""
        if step in self.images:
            path = folder / SNAPSHOTS.name / f"{self.images[step]:07d}.safetensors"
            save_model(path, self.shipped, self.config, {"steps": step, **facts})
        if step in self.steps:
            write_snapshot(folder / AVERAGES.name, step, self.posthoc, digest(self.config.to_dict()))
