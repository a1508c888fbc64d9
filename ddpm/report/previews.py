"""Pictures that show what a model draws while it trains."""

import copy
import math
from pathlib import Path

from ddpm.base import progress, variant
from ddpm.pictures import grids
from ddpm.sampling.classes import Classes
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer

IMAGES = 64
MOST_COLUMNS = 16  # of a grid with a column for each class
STEPS = 50


class Previews:
    """A grid of images every ``train.grid_every`` steps or epochs, by DDIM, from the same noise each time."""

    def __init__(self, trainer: Trainer, folder: Path):
        self.trainer = trainer
        self.folder = folder
        options, total = trainer.config.train, trainer.total
        unit = trainer.epoch_steps if options.grid_unit == "epochs" else 1
        every = options.grid_every or total + 1
        self.steps = {round(number * unit) for number in range(every, math.floor(total / unit) + 1, every)}
        self.network = copy.deepcopy(trainer.student.network).eval() if self.steps else None

    def __call__(self, step: int) -> None:
        if step not in self.steps or self.network is None:
            return
        trainer, diffusion = self.trainer, self.trainer.config.diffusion
        self.network.load_state_dict(trainer.student.averages.shipped)
        denoiser = Denoiser(self.network, diffusion, trainer.device, trainer.student.dtype, clip=True)
        name = "ddim" if "denoiser" in diffusion.loss.learns else "consistency"
        sampler = variant.build("samplers", {"name": name}, "sampler")
        classes = trainer.config.model.classes
        cycled = Classes((), (), range(classes)) if classes else None
        generator = Generator(denoiser, sampler, min(STEPS, diffusion.T), "uniform", trainer.shape, cycled)
        share = range(IMAGES)[trainer.ranks.share(IMAGES)]
        samples = generator.images(share, trainer.config.seed).to(trainer.device)
        samples = trainer.ranks.gather(samples, IMAGES)
        if trainer.ranks.main:
            columns = classes if 0 < classes <= MOST_COLUMNS else None
            path = self.folder / f"step-{step:07d}.png"
            grids.save_grid(samples.cpu(), path, columns, [f"step {step:,}"])
            progress.say(f"grid of images: {path}")
