"""Pictures of what a model in training draws, for the people who watch."""

from __future__ import annotations

import copy
import math
from pathlib import Path

from ddpm.base import variant
from ddpm.pictures import grids
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer

IMAGES = 64
STEPS = 50


class Previews:
    """A grid of the same images every ``train.grid_every`` steps or epochs: from equal noise, by DDIM."""

    def __init__(self, trainer: Trainer, folder: Path):
        self.trainer = trainer
        self.folder = folder
        options = trainer.config.train
        per_unit = trainer.epoch_steps if options.grid_unit == "epochs" else 1
        self.steps = {round(k * per_unit) for k in _multiples(options.grid_every, trainer.total / per_unit)}
        self.network = copy.deepcopy(trainer.network).eval() if self.steps else None

    def __call__(self, step: int) -> None:
        if step not in self.steps or self.network is None:
            return
        trainer, diffusion = self.trainer, self.trainer.config.diffusion
        self.network.load_state_dict(trainer.ema.averages)
        denoiser = Denoiser(self.network, diffusion, trainer.device, trainer.dtype, clip=True)
        ddim = variant.build("samplers", {"name": "ddim"}, "sampler")
        generator = Generator(denoiser, ddim, min(STEPS, diffusion.T), "uniform", diffusion.variance)
        own = range(IMAGES)[trainer.ranks.share(IMAGES)]
        samples = generator.images(own, trainer.config.seed, trainer.shape).to(trainer.device)
        samples = trainer.ranks.gather(samples, IMAGES)
        if trainer.ranks.main:
            grids.save_grid(samples.cpu(), self.folder / f"step-{step:07d}.png")


def _multiples(every: int, end: float) -> range:
    return range(every, math.floor(end) + 1, every) if every else range(0)
