"""The network interpolates log sigma_t^2 between the two fixed ones. Improved DDPM (arXiv:2102.09672), equation 15."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.variance import Variance


class LearnedRange(Variance):
    """v = 0 gives log beta_tilde_t, v = 1 log beta_t. The network outputs 2 v - 1, so that 0 is the middle; as in the
    paper, v is not limited to [0, 1]."""

    outputs = 2

    def log_variance(self, variance_output: Tensor | None, at: Coefficients) -> Tensor:
        if variance_output is None:
            raise TypeError("a learned variance needs the network's second half")
        v = (variance_output + 1) / 2
        return v * at.log_beta + (1 - v) * at.log_beta_tilde
