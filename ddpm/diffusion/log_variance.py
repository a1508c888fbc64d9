"""How hard each noise level is, learned along with the network. EDM2, Karras et al. 2023 (arXiv:2312.02696), equations
14 and 21."""

import torch
from torch import Tensor, nn

from ddpm.diffusion.coefficients import Coefficients

FEATURES = 128
MAX_LOG_SIGMA = 10.0  # beyond it all noise levels are alike; it is infinite at a step without signal


class LogVariance(nn.Module):
    """u of each image's noise level: ``forward(at)`` is (B,) float32, and 0 when freshly made.

    Fixed Fourier features of log(sigma / signal) / 4, then one linear layer. The paper draws the frequencies from a
    normal distribution; these are quantiles of it, the same for every seed.
    """

    frequency: Tensor

    def __init__(self) -> None:
        super().__init__()
        share = (torch.arange(FEATURES // 2, dtype=torch.float64) + 0.5) / (FEATURES // 2)
        frequency = 2 * torch.pi * torch.special.ndtri(0.5 + share / 2)
        self.register_buffer("frequency", frequency.float(), persistent=False)
        self.linear = nn.Linear(FEATURES, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, at: Coefficients) -> Tensor:
        log_sigma = (at.sigma / at.signal).log().flatten().float().clamp(-MAX_LOG_SIGMA, MAX_LOG_SIGMA)
        angle = log_sigma[:, None] / 4 * self.frequency
        return self.linear(torch.cat([angle.cos(), angle.sin()], dim=1)).squeeze(1)
