"""beta is the same at every step: "const" in the code of Ho et al. 2020 (arXiv:2006.11239)."""

from ddpm.diffusion.schedule import Array, Beta, Schedule, ramp


class ConstantSchedule(Schedule):
    """``beta`` is given for T = 1000."""

    beta: Beta = 0.02

    def betas(self, T: int) -> Array:
        return ramp(self.beta, self.beta, T)
