"""t is uniform on 1..T. Ho et al. 2020 (arXiv:2006.11239), Algorithm 1, line 3."""

from ddpm.base.tensor import Tensor
from ddpm.training.timesteps import TimestepSampler


class Uniform(TimestepSampler):
    def draw(self, uniform: Tensor, T: int, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return (uniform * T).long() + 1, uniform.new_ones(uniform.shape).float()
