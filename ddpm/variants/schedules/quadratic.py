"""sqrt(beta) grows linearly, between the ends of linear: "quad" in the code of Ho et al. 2020 (arXiv:2006.11239)."""

from ddpm.diffusion.schedule import Array, Beta, Schedule, ramp


class Quadratic(Schedule):
    """The ends are given for T = 1000. ``scaled_linear`` is the same curve with other ends."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    def betas(self, T: int) -> Array:
        return ramp(self.beta_start, self.beta_end, T, power=2)
