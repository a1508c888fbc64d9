"""The averages of ``train.posthoc``: updated after each step, and kept at some."""

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from ddpm.base.files import digest
from ddpm.model import posthoc
from ddpm.model.averages import write_snapshot
from ddpm.training.ema import EMA
from ddpm.training.train_params import TrainingConfig


class PowerAverages:
    """averages: those of the first length under ``0.NAME``, of the second under ``1.NAME``; without ``train.posthoc``
    there are none."""

    def __init__(self, network: nn.Module, config: TrainingConfig, total: int):
        options = config.train.posthoc
        self.steps = options.steps(total) if options else []
        gammas = [posthoc.exponent(length) for length in options.lengths] if options else []
        self.emas = [EMA(network, partial(posthoc.decay, gamma)) for gamma in gammas]
        self.averages: dict[str, Tensor] = {}
        for number, ema in enumerate(self.emas):
            self.averages |= {f"{number}.{name}": average for name, average in ema.averages.items()}
        self.config = digest(config.to_dict())

    def keep(self, step: int, folder: Path) -> None:
        """Write the averages to ``folder`` if ``step`` is one of the snapshots'."""
        if step in self.steps:
            write_snapshot(folder, step, self.averages, self.config)
