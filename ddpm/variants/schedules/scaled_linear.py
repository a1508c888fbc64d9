"""sqrt(beta) grows linearly, between Stable Diffusion's ends. Rombach et al. 2022 (arXiv:2112.10752)."""

from ddpm.diffusion.schedule import Array, Beta, Schedule, ramp


class ScaledLinear(Schedule):
    """The ends are given for T = 1000. ``quadratic`` is the same curve with DDPM's ends."""

    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012

    def betas(self, T: int) -> Array:
        return ramp(self.beta_start, self.beta_end, T, power=2)
