"""Flips, shifts, scaling, rotation and stretching that the network is shown as a condition, so that it draws none of
them. Karras et al. 2022 (arXiv:2206.00364), appendix F.2."""

import math
from typing import ClassVar

from ddpm.base.sections import Fraction, Share
from ddpm.base.tensor import Tensor
from ddpm.training.augmentation import Augmentation


class NonLeaking(Augmentation):
    """Each transformation happens to an image with probability ``p``, by itself; a flip with half of it. 0 or false
    turns one off.

    translation: the longest shift, as a share of each side; shifts are whole pixels. scale, anisotropy: standard
    deviations of log2 of the factor. rotation: the largest angle, as a share of a half turn. What comes in from outside
    mirrors what is inside.

    Differs from the paper: bilinear resampling; shifts by whole pixels; the axis of anisotropy is shown by its double
    angle, because the angle itself would not tell stretching from squeezing.
    """

    draws: ClassVar[int] = 13
    conditions: ClassVar[int] = 9

    p: Fraction = 0.12
    flip_x: bool = True
    flip_y: bool = True
    translation: Share = 0.125
    scale: Share = 0.2
    rotation: Share = 1.0
    anisotropy: Share = 0.2

    def __call__(self, x_0: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        uniform = torch.special.ndtr(normals.double())
        happens = uniform[:, :6] < self.p
        flip_x, flip_y = (
            (uniform[:, place] < self.p / 2) & wanted for place, wanted in enumerate((self.flip_x, self.flip_y))
        )
        x = torch.where(flip_x[:, None, None, None], x_0.flip(3), x_0)
        x = torch.where(flip_y[:, None, None, None], x.flip(2), x)
        shift = (2 * uniform[:, 6:8] - 1) * happens[:, 2:3]
        x, shift = _shift(x, shift, self.translation)
        scale = normals[:, 8].double() * (happens[:, 3] & (self.scale > 0))
        angle = math.pi * self.rotation * (2 * uniform[:, 9] - 1) * happens[:, 4]
        stretch = normals[:, 10].double() * (happens[:, 5] & (self.anisotropy > 0))
        axis = math.pi * (2 * uniform[:, 11] - 1) * (uniform[:, 12] < 0.5)  # half along the sides
        factor = torch.exp2(-self.anisotropy * stretch)
        inverse = torch.exp2(-self.scale * scale)[:, None, None] * _turn(-angle)
        inverse = inverse @ _turn(axis) @ torch.diag_embed(torch.stack([factor, 1 / factor], dim=1)) @ _turn(-axis)
        warped = (scale != 0) | (angle != 0) | (stretch != 0)
        x = torch.where(warped[:, None, None, None], _resample(x, inverse), x)
        done = [scale, angle.cos() - 1, angle.sin(), stretch * (2 * axis).cos(), stretch * (2 * axis).sin()]
        return x, torch.stack([flip_x, flip_y, *shift.unbind(1), *done], dim=1).float()


def _shift(x: Tensor, shift: Tensor, most: float) -> tuple[Tensor, Tensor]:
    """Images moved by whole pixels, and by how much: (B, 2) in [-1, 1], right and down, as shares of the most."""
    import torch

    moved = []
    for axis, share in zip((3, 2), shift.unbind(1), strict=True):
        side, last = x.shape[axis], x.shape[axis] - 1
        pixels = (share * (most * side)).round()
        place = torch.arange(side, device=x.device) - pixels.long()[:, None]
        place = last - (last - place % max(2 * last, 1)).abs()  # beyond an end: mirrored at the outermost pixels
        x = x.gather(axis, (place[:, None, None, :] if axis == 3 else place[:, None, :, None]).expand_as(x))
        moved.append(pixels / max(most * side, 1))
    return x, torch.stack(moved, dim=1)


def _turn(angle: Tensor) -> Tensor:
    """(B,) angles to (B, 2, 2) matrices of rotation."""
    import torch

    rows = [torch.stack([angle.cos(), -angle.sin()], dim=1), torch.stack([angle.sin(), angle.cos()], dim=1)]
    return torch.stack(rows, dim=1)


def _resample(x: Tensor, inverse: Tensor) -> Tensor:
    """The images with pixels from where (B, 2, 2) ``inverse`` takes them, about the centre, in pixels (x, y)."""
    import torch
    import torch.nn.functional as F

    height, width = x.shape[2:]
    (xx, xy), (yx, yy) = (row.unbind(1) for row in inverse.unbind(1))
    zero = torch.zeros_like(xx)
    # the grid's units are half the width and half the height
    rows = [torch.stack([xx, xy * (height / width), zero], 1), torch.stack([yx * (width / height), yy, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
