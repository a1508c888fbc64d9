"""The network of Classifier, and how it is fitted: see ddpm/variants/extractors/classifier.py."""

import math
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.images import Images
from ddpm.base.sections import Shape
from ddpm.scoring.features import Features, fitting

DIMENSIONS = 64
RGB = 3  # channels
SMOOTHING = 0.1  # of the labels of photographs
SMALL = 4  # pixels of a side: with more, it is halved; with fewer, it is not shifted


class Recipe(Protocol):
    """How to fit: ``ddpm.variants.extractors.classifier.Classifier``."""

    epochs: int
    min_steps: int
    batch_size: int
    learning_rate: float
    seed: int


def fit(
    images: Images, labels: NDArray[np.int64], classes: int, device: torch.device, recipe: Recipe
) -> dict[str, Tensor]:
    """The weights of a ClassifierNetwork fitted to images, (N, C, H, W), and labels, (N,), on the CPU. Batches and
    shifts are drawn on the CPU, so that they are the same on every device."""
    steps = max(recipe.min_steps, math.ceil(recipe.epochs * len(images) / recipe.batch_size))
    with fitting(recipe.seed, device), progress.bar(steps, "fit classifier", "step") as bar:
        network = ClassifierNetwork(Shape(*images.shape[1:]), classes).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps)
        generator = torch.Generator().manual_seed(recipe.seed)
        photographs = images.shape[1] == RGB
        reach, smoothing = (max(1, min(images.shape[2:]) // 10), SMOOTHING) if photographs else (1, 0.0)
        for _ in range(steps):
            rows = torch.randint(len(images), (recipe.batch_size,), generator=generator).numpy()
            shifts = torch.randint(-reach, reach + 1, (2, recipe.batch_size, 1), generator=generator)
            batch = shift(torch.from_numpy(images[rows]), *shifts)
            if photographs:
                mirrored = torch.rand(recipe.batch_size, generator=generator) < 0.5
                batch[mirrored] = batch[mirrored].flip(3)
            target = torch.from_numpy(labels[rows]).to(device)
            loss = F.cross_entropy(network(batch.to(device)).logits, target, label_smoothing=smoothing)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            bar.update()
    return {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}


class ClassifierNetwork(nn.Module):
    """uint8 (B, C, H, W) to Features: 64 pooled activations, and the classes' logits.

    3x3 convolutions halve each side and double the channels (16 to 64) until the image is at most 4x4.
    """

    def __init__(self, image: Shape, classes: int):
        super().__init__()
        width, sides = 16, (image.height, image.width)
        layers = _convolution(image.channels, width, (1, 1))
        while max(sides) > SMALL:
            down, right = (2 if side > SMALL else 1 for side in sides)
            layers += _convolution(width, min(2 * width, DIMENSIONS), (down, right))
            width, sides = min(2 * width, DIMENSIONS), (-(-sides[0] // down), -(-sides[1] // right))
        layers += _convolution(width, DIMENSIONS, (1, 1))
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(DIMENSIONS, classes)

    def forward(self, images: Tensor) -> Features:
        features = self.convolutions(images.float() / 127.5 - 1).mean(dim=(2, 3))
        return Features(features, self.head(features))


def _convolution(inputs: int, outputs: int, stride: tuple[int, int]) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


def shift(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move each image by so many pixels, repeating its edges. down, right: (B, 1) int64; below 0: up, and left.

    A side of less than SMALL pixels stays: too little of it would be left.
    """
    _, _, height, width = images.shape
    rows, columns = (
        (torch.arange(side) - by * (side >= SMALL)).clamp(0, side - 1) for side, by in ((height, down), (width, right))
    )
    index = torch.arange(len(images))[:, None, None]
    return images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
