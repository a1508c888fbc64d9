"""Make what docs/variants.md shows of the code: three pictures, and the table of what goes together.

``python -m docs.make_variants`` prints the table, and draws schedules.png, forward.png and samplers.png into docs/, the
last one on the current model.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import NamedTuple

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
from ddpm.report import render
from ddpm.report.blocks import Chapter, Table
from ddpm.sampling import guidance
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Sample, Spacing

COLUMNS = 11
EVALUATIONS = (10, 20, 50)
IMAGES = 4
LOG_SNR = 15  # the curves are cut at this, and at its negative


class Combination(NamedTuple):
    """Names of variants of the ``diffusion`` section; ``reasons`` say why they are refused, empty where allowed."""

    parameterization: str
    loss: str
    variance: str
    zero_terminal_snr: bool
    reasons: tuple[str, ...]


def combinations() -> list[Combination]:
    """Every parameterization with every loss, variance and end of the schedule, as reading a config judges them."""
    families = ("parameterizations", "losses", "variances")
    combined = []
    named = itertools.product(*map(variant.names, families))
    for names, zero_terminal_snr in itertools.product(named, (False, True)):
        parameterization, loss, variance = (
            variant.build(family, {"name": name}, family) for family, name in zip(families, names, strict=True)
        )
        schedule = {"name": "linear", "linear": {"zero_terminal_snr": zero_terminal_snr}}
        diffusion = Diffusion.model_construct(
            schedule=variant.build("schedules", schedule, "schedule"),
            parameterization=parameterization,
            variance=variance,
            loss=loss,
        )
        reasons = tuple(diffusion.refusals())
        combined.append(Combination(parameterization.name, loss.name, variance.name, zero_terminal_snr, reasons))
    return combined


def table() -> str:
    """What goes together, in Markdown: the variances and the end of the schedule that each loss and target allow.

    Losses that allow the same share a row.
    """
    allowed = [choice for choice in combinations() if not choice.reasons]
    ends = [choice for choice in allowed if choice.zero_terminal_snr]
    losses: dict[tuple[str, str], list[str]] = {}
    for loss in variant.names("losses"):
        variances = ", ".join(sorted({choice.variance for choice in allowed if choice.loss == loss}))
        end = "yes" if loss in {choice.loss for choice in ends} else "no"
        losses.setdefault((variances, end), []).append(loss)
    rows = [[", ".join(names), *cells] for cells, names in losses.items()]
    table = Table(["loss", "variance", "zero terminal SNR"], rows, text_columns=range(3))
    refused = set(variant.names("parameterizations")) - {choice.parameterization for choice in ends}
    return (
        f"{render.markdown([Chapter('', [table])])}\nEvery loss goes with every parameterization, "
        f"except that {', '.join(sorted(refused))} does not go with zero terminal SNR."
    )


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
    print(f"{table()}\n", flush=True)
    device = devices.resolve("auto")
    images, _ = open_split(PROCESSED, "test")
    for path in draw(load_model(MODEL_FILE, device), images, Path(__file__).parent, device):
        print(path)


if __name__ == "__main__":
    main()
