"""Networks that are fitted afresh to tell samples from real images: see ddpm/variants/metrics/c2st.py."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm.base.images import Images
from ddpm.scoring import distances
from ddpm.scoring.evaluate_params import C2st
from ddpm.scoring.features import fitting

WIDTH = 8  # channels of the first layer for each channel of the image
WIDEST = 24
GRID = 4  # the last layer sees the image in so many parts a side, or fewer
DROPOUT = 0.3
BATCH = 64
LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-2
ROWS = 256
SEED = 0  # its own: runs of all seeds meet the same opponents


class Opponents(nn.Module):
    """K networks side by side, a group of channels each, so that a step takes one call for all: (B, K, C, H, W) images
    in [-1, 1] to log-odds, (B, K), that they are real.

    3x3 convolutions, the first at full size; each pooling halves the sides until they are at most twice GRID, and the
    last brings them to GRID.
    """

    def __init__(self, count: int, channels: int, height: int, width: int):
        super().__init__()
        wide = min(WIDEST, WIDTH * channels)
        layers = [nn.Conv2d(count * channels, count * wide, 3, padding=1, groups=count)]
        depth = 1
        while max(height, width) > 2 * GRID:
            layers.append(nn.Conv2d(count * wide * depth, count * wide * 2, 3, padding=1, groups=count))
            depth, height, width = 2, -(-height // 2), -(-width // 2)
        self.convolutions = nn.ModuleList(layers)
        self.grid = min(GRID, height), min(GRID, width)
        self.head = nn.Conv2d(count * wide * depth, count, self.grid, groups=count)

    def forward(self, images: Tensor) -> Tensor:
        first, *others = self.convolutions
        x = F.silu(first(images.flatten(1, 2)))
        for convolution in others:
            x = F.silu(convolution(F.max_pool2d(x, 2, ceil_mode=True)))
        x = F.adaptive_max_pool2d(x, self.grid)
        return self.head(F.dropout(x, DROPOUT, self.training)).flatten(1)


class Odds(NamedTuple):
    """The log-odds of images that a network was not fitted to: (n,) each, for each of the K networks."""

    fake: NDArray[np.float64]
    real: NDArray[np.float64]


def tell_apart(fake: Images, real: Images, settings: C2st, device: torch.device) -> list[Odds]:
    """Fit 2 * ``repeats`` networks to half of ``images`` of ``fake`` and as many of ``real``, (N, C, H, W) uint8, for
    ``steps``, and let each judge as many others of both.

    Each repeat splits the images again, and its two networks learn one half and judge the other. What is drawn is drawn
    on the CPU, so that it is the same on every device; one thread sums, or the last bits would depend on their number.
    """
    half, networks = settings.images // 2, 2 * settings.repeats
    with fitting(SEED, device):
        images = torch.cat([torch.from_numpy(np.array(distances.part(each, 2 * half))) for each in (fake, real)])
        images = (images.float() / 127.5 - 1).to(device)
        is_real = (torch.arange(len(images)) >= 2 * half).float().to(device)
        own, others = [], []
        for _ in range(settings.repeats):
            one, other = (
                torch.cat(part)
                for part in zip(
                    *(torch.randperm(2 * half).add(first).split(half) for first in (0, 2 * half)), strict=True
                )
            )
            own += [one, other]
            others += [other, one]
        learned, judged = torch.stack(own, 1), torch.stack(others, 1)  # (2 * half, K) rows of the images
        network = Opponents(networks, *images.shape[1:]).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        places = torch.arange(networks)
        for _ in range(settings.steps):
            rows = learned[torch.randint(2 * half, (BATCH, networks)), places].to(device)
            # each network gets the gradient of its own mean
            loss = networks * F.binary_cross_entropy_with_logits(network(images[rows]), is_real[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            odds = torch.cat([network(images[rows.to(device)]) for rows in judged.split(ROWS)]).cpu().double().numpy()
    return [Odds(column[:half], column[half:]) for column in odds.T]
