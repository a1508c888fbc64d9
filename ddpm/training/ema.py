"""The exponential moving average of the weights: what is sampled and shipped."""

from abc import ABC, abstractmethod

from ddpm.base.variant import Variant


class EMAProfile(Variant, ABC):
    """Contract of a profile: how fast the average forgets."""

    @abstractmethod
    def decay(self, step: int) -> float:
        """The share of the average that survives update ``step`` (1, 2, ...), in [0, 1); 0 copies the weights."""
