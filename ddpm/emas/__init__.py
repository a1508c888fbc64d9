"""Profiles of the exponential moving average of the weights; ``ddpm.ema`` applies them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ddpm.variants import Variant


class EMAProfile(Variant, ABC):
    """Contract of a profile."""

    @abstractmethod
    def decay(self, step: int) -> float:
        """The share of the average that survives update ``step`` (1, 2, ...), in [0, 1); 0 copies the weights."""
