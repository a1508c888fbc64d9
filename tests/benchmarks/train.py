"""A training step: ours, the article's, diffusers', denoising-diffusion-pytorch's."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.model import build
from ddpm.params import config, file, presets
from ddpm.params.config import Config
from ddpm.training.trainer import Trainer
from tests.benchmarks.harness import Case, Options, network_flops, synchronize

PRECISIONS = ("bfloat16", "float32")
IMAGES = 512
ROUNDS = 5
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
    network: nn.Module, loss: Loss, images: np.ndarray, batch: int, precision: str, device: torch.device
) -> Callable[[], None]:
    """A training step as articles write it, with torch's defaults and the images in memory."""
    dtype = getattr(torch, precision)
    data = torch.from_numpy(images).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-4)

    def step() -> None:
        x_0 = data[torch.randint(len(data), (batch,), device=device)].float() / 127.5 - 1
        optimizer.zero_grad()
        with devices.autocast(dtype, device):
            value = loss(x_0)
        value.backward()
        optimizer.step()
        value.item()

    return step


def epsilon_loss(network: Callable[[Tensor, Tensor], Tensor], alpha_bar: Tensor) -> Loss:
    """Algorithm 1 of Ho et al. 2020."""

    def loss(x_0: Tensor) -> Tensor:
        t = torch.randint(len(alpha_bar), (len(x_0),), device=x_0.device)
        signal, epsilon = alpha_bar[t][:, None, None, None], torch.randn_like(x_0)
        return F.mse_loss(network(signal.sqrt() * x_0 + (1 - signal).sqrt() * epsilon, t), epsilon)

    return loss


def diffusers(device: torch.device, width: int = 64) -> tuple[nn.Module, Loss]:
    """The article's network, and its loss."""
    from diffusers import UNet2DModel

    levels = ("", "Attn", "Attn", "")  # attention at the heights 16 and 8, as in the article
    network = UNet2DModel(
        sample_size=32, block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        down_block_types=tuple(f"{kind}DownBlock2D" for kind in levels),
        up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(levels)), norm_num_groups=8, dropout=0.1,
    ).to(device)  # fmt: skip
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


def cases(options: Options) -> list[Case]:
    """The article's network in both precisions against each peer."""
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
    images, found = pictures(chosen), list[Case]()
    flops = {name: network_flops(network, shape) for name, (network, _) in peers.items()}
    our_flops = network_flops(build.network(chosen.training()), shape)
    for precision in PRECISIONS:
        step = ours(preset("article", batch_size=batch, precision=precision), device)
        found.append(Case("article: ours", precision, step, batch, our_flops * batch))
        for name, (network, loss) in peers.items():
            run = plain(network, loss, images, batch, precision, device)
            found.append(Case(name, precision, run, batch, flops[name] * batch))
    return found


def auto(device: torch.device) -> str:
    """The precision that ``auto`` selects here."""
    return "bfloat16" if devices.has_bfloat16(device) else "float32"
