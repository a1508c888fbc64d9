"""Draw the pictures of docs/variants.md: schedules.png, forward.png and, on the current model, samplers.png.

Run: ``python -m docs.make_variants``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddpm.base import variant
from ddpm.base.images import Images
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.compute import devices, noise
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import Chain, from_images, to_images
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.model.model_file import Loaded, load_model
from ddpm.pictures import grids, plots
from ddpm.sampling import guidance
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample, Spacing

COLUMNS = 11
EVALUATIONS = (10, 20, 50)
IMAGES = 4
LOG_SNR = 15  # the curves are cut at this, and at its negative


def draw(model: Loaded, images: Images, folder: Path, device: torch.device, seed: int = 0) -> list[Path]:
    """schedules.png, forward.png and samplers.png in ``folder``.

    images: real ones, (N, C, H, W) uint8; the first is noised. The samplers start from the same noise.
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
    x_0 = from_images(torch.from_numpy(images[:1].copy()))
    epsilon = noise.gaussian(seed, "forward", torch.zeros(1, dtype=torch.int64), 0, x_0.shape[1:])
    steps = np.linspace(1, T, COLUMNS).round().astype(int)
    rows = {
        name: np.concatenate([to_images(q_sample(x_0, epsilon, Chain(s).at_step(int(t)))).numpy() for t in steps])
        for name, s in schedules.items()
    }
    grids.save_rows(rows, paths[1], [f"t = {t}" for t in steps])
    grids.save_rows(sampled(model, seed, device), paths[2], [f"{n} evaluations" for n in EVALUATIONS])
    return paths


def sampled(model: Loaded, seed: int, device: torch.device) -> dict[str, np.ndarray]:
    """Sampler, of those that suit the model -> (N, C, H, W) uint8: the same IMAGES noises, denoised with each number of
    EVALUATIONS in turn."""
    rows = {}
    for name in variant.names("samplers"):
        sampler = variant.build("samplers", {"name": name}, "sampler")
        if sampler.refusal(model.config.diffusion.loss, weight=1):
            continue
        spacing: Spacing = "uniform" if name == "ancestral" else "trailing"  # what suits each at so few steps
        drawn = []
        for evaluations in EVALUATIONS:
            options = Sample(count=IMAGES, sampler=sampler, steps=1, spacing=spacing)
            steps = steps_within(options, evaluations, model.config.diffusion)
            options = options.model_copy(update={"steps": steps})
            generator = Generator.of(model, options, device)
            drawn.append(generator.images(range(IMAGES), seed).numpy())
        rows[name] = np.concatenate(drawn)
    return rows


def steps_within(options: Sample, evaluations: int, diffusion: Diffusion) -> int:
    """The most steps, at most T, that ``evaluations`` of the network allow."""
    steps = range(1, min(evaluations, diffusion.T) + 1)
    return max(
        n for n in steps if guidance.evaluations(options.model_copy(update={"steps": n}), diffusion) <= evaluations
    )


def main() -> None:
    device = devices.resolve("auto")
    images, _ = open_split(PROCESSED, "test")
    for path in draw(load_model(MODEL_FILE, device), images, Path(__file__).parent, device):
        print(path)


if __name__ == "__main__":
    main()
