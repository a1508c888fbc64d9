"""A small convolutional classifier of the dataset's own classes, fitted on its train split.

It needs no download, and its features are learned from the data itself, where Inception's are learned from photographs.
The weights in ``weights/`` ship with the package and are used only for the exact train split they were fitted on, so
that every machine scores that dataset with the same weights. For any other data they are fitted in the reference stage,
which gives the same bytes for any number of threads, but only on the same type of device. Shipped weights are made by::

    python -m ddpm.variants.extractors.classifier data/processed ddpm/variants/extractors/weights/digits16.safetensors
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.errors import UserError, exit_code
from ddpm.base.files import atomic_path
from ddpm.base.images import Images
from ddpm.base.settings import Positive, Shape
from ddpm.compute import devices
from ddpm.data.processed import open_split, read_manifest
from ddpm.scoring.extractor import Extractor, Features, Trial

SHIPPED = Path(__file__).parent / "weights"
COMMAND = "python -m ddpm.variants.extractors.classifier data/processed FILE"
METADATA = "ddpm_classifier"
RGB = 3  # channels
SMOOTHING = 0.1  # of the labels of photographs
SMALL = 4  # pixels of a side: with more, it is halved; with fewer, it is not shifted


class Classifier(Extractor):
    """Fitted with AdamW and a one-cycle rate for ``epochs``, but at least ``min_steps``.

    Images of three channels are taken for photographs: they are mirrored and moved by up to a tenth of their smaller
    side, and their labels are smoothed, because otherwise a few thousand of them are known by heart (docs/extractors.md
    has what each step brings). Others are moved by a pixel. The seed is the extractor's own, not the experiment's: runs
    with different seeds must be scored by the same features.
    """

    dimensions = 64
    knows_classes = True
    epochs: Positive = 10
    min_steps: Positive = 1500
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: PositiveFloat = 3e-3
    seed: int = 0

    def write_weights(self, processed: Path, path: Path, device: torch.device) -> None:
        """Copy the weights that ship for exactly this train split, or else fit new ones.

        Raises UserError when the dataset has fewer than two classes.
        """
        train = read_manifest(processed).sha256["train"]
        for shipped in SHIPPED.glob("*.safetensors"):
            if read_metadata(shipped)["train_sha256"] == train:
                shutil.copyfile(shipped, path)
                return
        self.fit(processed, path, device)

    def trial(self, dataset: str, some: Images, classes: int, images: int, device: torch.device) -> Trial:
        image = Shape(*some.shape[1:])
        shipped = [read_metadata(file) for file in SHIPPED.glob("*.safetensors")]
        made = [(about["dataset"], about["channels"], about["image_size"]) for about in shipped]
        steps = 0 if (dataset, image.channels, image.image_size) in made else self._length(images)
        network = Network(image, classes).to(device)
        labels = np.arange(len(some)) % classes
        return Trial(network.eval(), steps, self._steps(network, some, labels, steps, device))

    def load(self, weights: Path) -> nn.Module:
        about = read_metadata(weights)
        network = Network(Shape.of(about["channels"], about["image_size"]), about["classes"])
        network.load_state_dict(load_file(weights))
        return network.eval()

    def fit(self, processed: Path, path: Path, device: torch.device) -> None:
        """Fit on the train split and write the weights; the metadata says how and from what they were made."""
        manifest = read_manifest(processed)
        classes = len(manifest.classes)
        if classes < 2:
            raise UserError(
                f"evaluate.extractors: 'classifier' needs at least 2 classes, {manifest.dataset} has {classes}: "
                "use auto or inception, or sort the images into a folder per class"
            )
        devices.make_deterministic(device)
        with torch.random.fork_rng(), _one_thread():
            torch.manual_seed(self.seed)
            network = Network(manifest.shape, classes).to(device)
            images, labels = open_split(processed, "train")
            steps = self._length(len(images))
            with progress.bar(steps, "fit classifier", "step") as bar:
                for _ in self._steps(network, images, labels, steps, device):
                    bar.update()
        about = {
            "command": COMMAND,
            "recipe": {field: getattr(self, field) for field in type(self).model_fields},
            "dataset": manifest.dataset,
            "train_sha256": manifest.sha256["train"],
            "image_size": manifest.shape.image_size,
            "channels": manifest.channels,
            "classes": classes,
        }
        state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
        with atomic_path(path) as temporary:
            # one key, because safetensors writes several in a random order
            save_file(state, temporary, metadata={METADATA: json.dumps(about, sort_keys=True)})

    def _length(self, images: int) -> int:
        return max(self.min_steps, math.ceil(self.epochs * images / self.batch_size))

    def _steps(
        self, network: Network, images: Images, labels: NDArray[np.int64], steps: int, device: torch.device
    ) -> Iterator[None]:
        """Yield after each step. Batches and shifts are drawn on the CPU, so that they are the same on every device."""
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=steps)
        generator = torch.Generator().manual_seed(self.seed)
        photographs = images.shape[1] == RGB
        reach = max(1, min(images.shape[2:]) // 10) if photographs else 1
        network.train()
        for _ in range(steps):
            chosen = torch.randint(len(images), (self.batch_size,), generator=generator).numpy()
            shifts = torch.randint(-reach, reach + 1, (2, self.batch_size, 1), generator=generator)
            batch = shift(torch.from_numpy(images[chosen]), *shifts)
            if photographs:
                mirrored = torch.rand(self.batch_size, generator=generator) < 0.5
                batch[mirrored] = batch[mirrored].flip(3)
            batch = batch.to(device)
            target = torch.from_numpy(labels[chosen]).to(device)
            loss = F.cross_entropy(network(batch).logits, target, label_smoothing=SMOOTHING * photographs)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            yield


class Network(nn.Module):
    """uint8 (B, C, H, W) to Features: 64 pooled activations, and the classes' logits.

    3x3 convolutions halve each side and double the channels (16 to 64) until the image is at most 4x4.
    """

    def __init__(self, image: Shape, classes: int):
        super().__init__()
        width, sides = 16, (image.height, image.width)
        layers = _convolution(image.channels, width, (1, 1))
        while max(sides) > SMALL:
            down, right = (2 if side > SMALL else 1 for side in sides)
            layers += _convolution(width, min(2 * width, Classifier.dimensions), (down, right))
            width, sides = min(2 * width, Classifier.dimensions), (-(-sides[0] // down), -(-sides[1] // right))
        layers += _convolution(width, Classifier.dimensions, (1, 1))
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(Classifier.dimensions, classes)

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


@contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, because the order in which threads sum gradients changes the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def read_metadata(weights: Path) -> dict[str, Any]:
    """The metadata that ``Classifier.fit`` wrote."""
    with safe_open(weights, "pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()[METADATA])
    return about


def _main() -> None:
    if len(sys.argv) != 3:
        raise UserError(COMMAND)
    Classifier().fit(Path(sys.argv[1]), Path(sys.argv[2]), torch.device("cpu"))


if __name__ == "__main__":
    sys.exit(exit_code(_main))
