"""beta grows linearly. Ho et al. 2020 (arXiv:2006.11239), section 4."""

from ddpm.diffusion.schedule import Array, Beta, Schedule, ramp


class Linear(Schedule):
    """The ends are given for T = 1000 and scaled by 1000 / T, so that chains of any length end with the same noise."""

    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    def betas(self, T: int) -> Array:
        return ramp(self.beta_start, self.beta_end, T)
