"""The network interpolates log sigma_t^2 between the two fixed ones, pixel by pixel. Improved DDPM, Nichol & Dhariwal
2021 (arXiv:2102.09672), equation 15."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.variance import Variance


class LearnedRange(Variance):
    """The paper's v is 0 at beta_tilde_t and 1 at beta_t. The network outputs 2 v - 1, so that a new one, whose output
    is 0, starts in the middle; as in the paper, nothing keeps v within [0, 1].

    Only ``ancestral`` draws with it. The other samplers use the prediction alone, as DDIM does in the paper's code.
    """

    outputs = 2

    def log_variance(self, at: Coefficients, variance_output: Tensor | None = None) -> Tensor:
        if variance_output is None:
            raise TypeError("a learned variance needs the second half of the network's output")
        v = (variance_output + 1) / 2
        return v * at.log_beta + (1 - v) * at.log_beta_tilde
