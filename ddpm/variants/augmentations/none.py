"""The images as they are, or flipped by train.horizontal_flip."""

from ddpm.base.tensor import Tensor
from ddpm.training.augmentation import Augmentation


class Unchanged(Augmentation):
    def __call__(self, x_0: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        return x_0, normals
