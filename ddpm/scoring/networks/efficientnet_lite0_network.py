"""The network of EfficientNetLite0: see ddpm/variants/extractors/efficientnet_lite0.py."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ddpm.scoring.features import Features

STEM = 32
# of each stage: times that its blocks widen their input, kernel, stride of its first block, channels, blocks
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
HEAD = 1280
CLASSES = 1000


class EfficientNet(nn.Module):
    """uint8 (B, 1 or 3, H, W) to Features: the mean over the last responses, (B, 1280), and ImageNet's logits,
    (B, 1000)."""

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size, self.mean, self.std = size, mean, std
        self.stem = Convolution(3, STEM, kernel=3, stride=2)
        blocks, inputs = [], STEM
        for widening, kernel, stride, outputs, count in STAGES:
            for number in range(count):
                blocks.append(InvertedBottleneck(inputs, outputs, widening, kernel, 1 if number else stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = Convolution(inputs, HEAD)
        self.classes = nn.Linear(HEAD, CLASSES)

    def forward(self, images: Tensor) -> Features:
        features = self.head(self.blocks(self.stem(self.view(images)))).mean((2, 3))
        return Features(features, self.classes(features))

    def view(self, images: Tensor) -> Tensor:
        """The whole images in RGB, squashed to ``size`` x ``size`` pixels by Pillow's bicubic filter, with normalised
        channels, float32. Pillow averages over the source pixels when it shrinks, and rounds to 8 bits, the same on
        every machine."""
        rows = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().cpu().numpy()
        pictures = (Image.fromarray(row).resize((self.size, self.size), Image.Resampling.BICUBIC) for row in rows)
        resized = np.stack([np.asarray(picture) for picture in pictures])
        # channels stay last in memory: convolutions keep them there, and on a CPU take a fifth less time
        pixels = torch.from_numpy(resized).to(images.device).permute(0, 3, 1, 2).float() / 255
        mean, std = (pixels.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (pixels - mean) / std


class InvertedBottleneck(nn.Module):
    """MBConv without squeeze and excitation (Sandler et al. 2018, arXiv:1801.04381): widen, convolve each channel,
    project; the input is added where shapes allow."""

    def __init__(self, inputs: int, outputs: int, widening: int, kernel: int, stride: int):
        super().__init__()
        width = inputs * widening
        self.expand = Convolution(inputs, width) if widening > 1 else nn.Identity()
        self.depthwise = Convolution(width, width, kernel, stride, groups=width)
        self.project = Convolution(width, outputs, activation=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.residual else out


class Convolution(nn.Module):
    """A convolution with TensorFlow's SAME padding, batch norm, and ReLU6 unless ``activation`` is False."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: bool = True
    ):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3)
        self.kernel, self.stride, self.activation = kernel, stride, activation

    def forward(self, x: Tensor) -> Tensor:
        (top, bottom), (left, right) = (self.padding(side) for side in x.shape[2:])
        out = self.norm(self.conv(F.pad(x, (left, right, top, bottom))))
        return F.relu6(out) if self.activation else out

    def padding(self, side: int) -> tuple[int, int]:
        """Before and after ``side`` pixels, so that ceil(side / stride) remain; the odd one comes after."""
        whole = max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0)
        return whole // 2, whole - whole // 2
