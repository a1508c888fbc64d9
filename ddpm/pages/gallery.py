"""Pictures that set variants side by side: schedules, the forward process of each, one noise under each sampler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddpm.base import variant
from ddpm.compare import frontier
from ddpm.compute import noise
from ddpm.diffusion.chain import Chain, from_images, q_sample, to_images
from ddpm.model.file import Loaded
from ddpm.pictures import plots
from ddpm.sampling.generator import Generator
from ddpm.sampling.settings import Sample

COLUMNS = 11
EVALUATIONS = (10, 20, 50)
IMAGES = 4
LOG_SNR = 15  # is drawn up to this, and from its negative


def draw(model: Loaded, pictures: np.ndarray, seed: int, folder: Path, device: torch.device) -> list[Path]:
    """schedules.png, forward.png and samplers.png in ``folder``.

    pictures: real images, (N, C, H, W) uint8; the first is noised. The samplers start from the same noise.
    """
    T = model.config.diffusion.T
    schedules = {
        name: variant.build("schedules", {"name": name}, "schedule").noise_schedule(T)
        for name in variant.names("schedules")
    }
    paths = [folder / name for name in ("schedules.png", "forward.png", "samplers.png")]
    t = np.arange(1, T + 1)
    alpha_bar = {name: np.stack([t, one.alpha_bar], 1) for name, one in schedules.items()}
    log_snr = {name: np.stack([t, one.log_snr], 1)[np.abs(one.log_snr) <= LOG_SNR] for name, one in schedules.items()}
    panels = {"alpha_bar": alpha_bar, "log SNR": log_snr}
    plots.lines(paths[0], [plots.Panel(name, "t", name, curves) for name, curves in panels.items()])
    x_0 = from_images(torch.from_numpy(pictures[:1].copy()))
    epsilon = noise.gaussian(seed, "forward", torch.zeros(1, dtype=torch.int64), 0, x_0.shape[1:])
    steps = np.linspace(1, T, COLUMNS).round().astype(int)
    rows = {
        name: np.concatenate([to_images(q_sample(x_0, epsilon, Chain(s).at_step(int(t)))).numpy() for t in steps])
        for name, s in schedules.items()
    }
    plots.rows(paths[1], rows, [f"t = {t}" for t in steps])
    plots.rows(paths[2], *_sampled(model, seed, device))
    return paths


def _sampled(model: Loaded, seed: int, device: torch.device) -> tuple[dict[str, np.ndarray], list[str]]:
    """For each sampler the same IMAGES noises, brought back by each number of EVALUATIONS, and the columns' titles."""
    rows = {}
    for name in variant.names("samplers"):
        sampler = variant.build("samplers", {"name": name}, "sampler")
        drawn = []
        for evaluations in EVALUATIONS:
            steps = frontier.steps_within(sampler, evaluations, model.config.diffusion.T)
            options = Sample(count=IMAGES, sampler=sampler, steps=steps, spacing=frontier.few_steps(name))
            generator = Generator.of(model, options, device)
            drawn.append(generator.images(range(IMAGES), seed, model.image_shape).numpy())
        rows[name] = np.concatenate(drawn)
    return rows, [f"{n} evaluations" if i == 0 else "" for n in EVALUATIONS for i in range(IMAGES)]
