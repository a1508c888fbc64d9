"""L_vlb: the variational bound itself, in bits per dimension. Ho et al. 2020 (arXiv:2006.11239), equation 5."""

from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss


class VLB(Loss):
    trains_variance = True

    def measure(self, estimate: Estimate) -> Tensor:
        return estimate.bound()
