"""Constant decay after a warm-up. Ho et al. 2020 (arXiv:2006.11239), appendix B, with 0.9999."""

from ddpm.base.sections import BelowOne
from ddpm.training.ema import EMAProfile


class ConstantEMA(EMAProfile):
    """With ``warmup`` the decay is at most (1 + step) / (10 + step), so that early weights are soon forgotten."""

    value: BelowOne = 0.9999
    warmup: bool = True

    def decay(self, step: int) -> float:
        return min(self.value, (1 + step) / (10 + step)) if self.warmup else self.value
