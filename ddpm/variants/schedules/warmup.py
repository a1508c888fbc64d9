"""beta grows linearly over the first steps, then is constant: "warmup10" (fraction 0.1) and "warmup50" (0.5) in the
code of Ho et al. 2020 (arXiv:2006.11239)."""

from typing import Annotated

from pydantic import Field

from ddpm.diffusion.schedule import Array, Beta, Schedule, ramp


class Warmup(Schedule):
    """The ends are given for T = 1000; ``fraction`` is the share of the steps over which beta grows."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.1

    def betas(self, T: int) -> Array:
        return ramp(self.beta_start, self.beta_end, T, fraction=self.fraction)
