"""A training step: ours, the article's, diffusers', denoising-diffusion-pytorch's; and the default preset's."""

from __future__ import annotations

import copy
import csv
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.model import build
from ddpm.model.layers import Dropout
from ddpm.params import config, file, presets
from ddpm.params.config import Config
from ddpm.training.trainer import Trainer
from tests.benchmarks.harness import Bench, Case, Options, faster, network_flops, peaks, synchronize
from tests.benchmarks.project import Project

PRECISIONS = ("bfloat16", "float32")
IMAGES = 512
Loss = Callable[[Tensor], Tensor]  # of x_0, (B, C, H, W) in [-1, 1]


def preset(name: str, **train: object) -> Config:
    """A preset with some keys of its train section changed."""
    chosen = config.parse(file.decode(presets.text(name), name))
    return chosen.model_copy(update={"train": chosen.train.model_copy(update=train)})


def pictures(chosen: Config) -> np.ndarray:
    shape = (IMAGES, *chosen.data.shape)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def ours(chosen: Config, device: torch.device) -> Callable[[], None]:
    """Our step, as the train stage runs it in one process."""
    trainer, steps = Trainer(chosen.training(), pictures(chosen), device), itertools.count(1)

    def step() -> None:
        trainer.step(next(steps))
        synchronize(device)

    return step


def plain(
    network: nn.Module,
    loss: Loss,
    images: np.ndarray,
    batch: int,
    precision: str,
    device: torch.device,
    clip: float | None = None,
    decay: float | None = None,
) -> Callable[[], None]:
    """A training step as articles write it, with torch's defaults and the images in memory."""
    dtype = getattr(torch, precision)
    data = torch.from_numpy(images).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-4)
    average = copy.deepcopy(network)

    def step() -> None:
        x_0 = data[torch.randint(len(data), (batch,), device=device)].float() / 127.5 - 1
        optimizer.zero_grad()
        with devices.autocast(dtype, device):
            value = loss(x_0)
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        if decay:
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), network.parameters(), strict=True):
                    mean.mul_(decay).add_(parameter, alpha=1 - decay)
        value.item()

    return step


def with_torch_dropout(network: nn.Module) -> nn.Module:
    """The network with torch's dropout in place of ours, which gets its keys by image before each step."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout2d(child.p) if child.channels else nn.Dropout(child.p))
    return network


def epsilon_loss(network: Callable[[Tensor, Tensor], Tensor], alpha_bar: Tensor) -> Loss:
    """Algorithm 1 of Ho et al. 2020."""

    def loss(x_0: Tensor) -> Tensor:
        t = torch.randint(len(alpha_bar), (len(x_0),), device=x_0.device)
        signal, epsilon = alpha_bar[t][:, None, None, None], torch.randn_like(x_0)
        return F.mse_loss(network(signal.sqrt() * x_0 + (1 - signal).sqrt() * epsilon, t), epsilon)

    return loss


def v_loss(network: Callable[[Tensor, Tensor], Tensor], alpha_bar: Tensor) -> Loss:
    """The same for Salimans & Ho 2022's v."""

    def loss(x_0: Tensor) -> Tensor:
        t = torch.randint(len(alpha_bar), (len(x_0),), device=x_0.device)
        signal, epsilon = alpha_bar[t][:, None, None, None], torch.randn_like(x_0)
        x_t = signal.sqrt() * x_0 + (1 - signal).sqrt() * epsilon
        return F.mse_loss(network(x_t, t + 1), signal.sqrt() * epsilon - (1 - signal).sqrt() * x_0)

    return loss


def benches(options: Options) -> Iterator[Bench]:
    """The article's network in both precisions against each peer, and the default preset's."""
    yield article(options)
    yield digits(options)


def diffusers(device: torch.device, width: int = 64) -> tuple[nn.Module, Loss]:
    """The article's network, and its loss."""
    from diffusers import UNet2DModel

    levels = ("", "Attn", "Attn", "")  # attention at the heights 16 and 8, as in the article
    network = UNet2DModel(
        sample_size=32,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in levels),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(levels)),
        norm_num_groups=8,
        dropout=0.1,
    ).to(device)
    return network, epsilon_loss(lambda x, t: network(x, t).sample, alpha_bar(device))


def lucidrains(device: torch.device, width: int = 64) -> tuple[nn.Module, Loss]:
    """denoising-diffusion-pytorch's network of that width, and its loss."""
    from denoising_diffusion_pytorch import GaussianDiffusion, Unet

    network = Unet(dim=width).to(device)
    diffusion = GaussianDiffusion(network, image_size=32).to(device)
    return network, lambda x_0: diffusion((x_0 + 1) / 2)


LIBRARIES = {"article: diffusers": diffusers, "denoising-diffusion-pytorch": lucidrains}


def alpha_bar(device: torch.device) -> Tensor:
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0).to(device)


def article(options: Options) -> Bench:
    from tests.peers.article import ArticleUNet

    device, batch = options.device, 8 if options.quick else 32
    chosen = preset("article", batch_size=batch)
    shape = chosen.data.shape
    original = ArticleUNet().to(device)
    peers: dict[str, tuple[nn.Module, Loss]] = {
        "article: its own code": (original, epsilon_loss(original, alpha_bar(device)))
    }
    try:
        peers |= {name: make(device) for name, make in LIBRARIES.items()}
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: not installed; pip install -c constraints.txt -e '.[dev,peers]'") from error
    images, found = pictures(chosen), {}
    flops = {name: network_flops(network, shape) for name, (network, _) in peers.items()}
    our_flops = network_flops(build.network(chosen.training()), shape)
    for precision in PRECISIONS:
        step = ours(preset("article", batch_size=batch, precision=precision), device)
        stage = _article_stage(options, batch, precision)
        cases = [
            Case("article: ours", precision, step, batch, our_flops * batch),
            Case("article: ours, the train stage", precision, stage, batch, our_flops * batch, warm=False),
        ]
        for name, (network, loss) in peers.items():
            run = plain(network, loss, images, batch, precision, device)
            cases.append(Case(name, precision, run, batch, flops[name] * batch))
        found |= {case.key: case for case in cases}
    goals = []
    for name in ("article: ours", "article: ours, the train stage"):
        for precision in PRECISIONS:
            mine = found[f"{name} [{precision}]"]
            goals += [
                faster(mine, found[f"article: its own code [{precision}]"], 1.3),
                faster(mine, found[f"article: diffusers [{precision}]"], 1.5),
                faster(mine, found[f"denoising-diffusion-pytorch [{precision}]"], 1.3, per="FLOP"),
            ]
        if auto(device) != "float32":
            mine = found[f"{name} [{auto(device)}]"]
            goals += [faster(mine, found[f"article: {peer} [float32]"], 2.3) for peer in ("its own code", "diffusers")]
    cases = [*found.values(), *(case for precision in PRECISIONS for case in peaks(precision, device))]
    return Bench(cases, goals, rounds=5)


def auto(device: torch.device) -> str:
    """The precision that ``auto`` selects here."""
    return "bfloat16" if devices.has_bfloat16(device) else "float32"


def _article_stage(options: Options, batch: int, precision: str) -> TrainStage:
    """The stage on random pictures instead of the flowers, which would have to be downloaded."""
    source = options.scratch / "random"
    if not source.exists():
        source.mkdir()
        for i, image in enumerate(pictures(preset("article"))):
            Image.fromarray(image.transpose(1, 2, 0)).save(source / f"{i:03d}.png")
    return TrainStage(
        options.scratch / f"article-{precision}",
        "article",
        6 if options.quick else 12,
        {"data": {"dataset": {"name": "image_folder"}, "source": str(source)}},
        batch_size=batch,
        precision=precision,
    )


def digits(options: Options) -> Bench:
    device = options.device
    chosen = preset("digits")
    train, shape = chosen.train, chosen.data.shape
    precision = auto(device)
    network = with_torch_dropout(build.network(chosen.training()).train().to(device))
    schedule = chosen.diffusion.schedule.noise_schedule(chosen.diffusion.T)
    loss = v_loss(network, torch.from_numpy(schedule.alpha_bar).float().to(device))
    flops = network_flops(network, shape) * train.batch_size
    run = plain(network, loss, pictures(chosen), train.batch_size, precision, device, train.gradient_clip, 0.998)
    peer = Case("digits: written plainly", precision, run, train.batch_size, flops)
    alone = Case("digits: ours, one process", precision, ours(chosen, device), train.batch_size, flops)
    stage = TrainStage(options.scratch / "digits", "digits", 60 if options.quick else 300)
    pipeline = Case("digits: ours, the train stage", precision, stage, train.batch_size, flops, warm=False)
    return Bench([alone, peer, pipeline], [faster(alone, peer, 1.5), faster(pipeline, peer, 1.5)], rounds=5)


class TrainStage:
    """``python -m stages train`` on a preset, in as many processes as it uses; a call returns the seconds per step.

    The time between the first quarter of the steps and the last counts; start-up and warm-up are left out.
    """

    def __init__(
        self, folder: Path, preset: str, steps: int, sections: Mapping[str, Any] = MappingProxyType({}), **train: object
    ):
        self.folder = folder
        self.preset = preset
        undisturbed = {"steps": steps, "epochs": None, "checkpoint_every": steps, "grid_every": 0}
        self.changes = {**sections, "train": undisturbed | train}

    @cached_property
    def project(self) -> Project:
        project = Project(self.folder, self.preset, self.changes)
        for name in ("check", "download", "preprocess"):
            project.stage(name)
        return project

    def __call__(self) -> float:
        self.project.stage("train")
        return steady(self.folder / "metrics/loss.csv")


def steady(curve: Path) -> float:
    """Seconds per step in loss.csv, between the first quarter of its rows and the last."""
    with curve.open(newline="") as file:
        rows = [(int(row["step"]), float(row["seconds"])) for row in csv.DictReader(file)]
    (first, start), (last, end) = rows[len(rows) // 4], rows[-1]
    return (end - start) / (last - first)
