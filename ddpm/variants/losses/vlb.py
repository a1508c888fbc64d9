"""L_vlb, the variational bound itself, in bits per dimension. Ho et al. 2020 (arXiv:2006.11239), equation 5."""

from typing import ClassVar

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class VLB(Loss):
    """What ``bits_per_dim`` estimates, without the constant L_T, and before x_0 is clamped. Its terms differ by orders
    of magnitude over t, which makes it noisy: ``train.timestep_sampler: loss_second_moment`` was made for it."""

    outputs: ClassVar[tuple[int, ...]] = (1, 2)

    def measure(self, estimate: Estimate) -> Tensor:
        return estimate.bound()
