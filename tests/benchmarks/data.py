"""The data path: batches from memory against files decoded for each batch; and preparing a folder of photos."""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ddpm.base.sections import parse
from ddpm.compute import noise
from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess
from ddpm.training.batches import Batches
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.benchmarks.harness import Bench, Case, Options, at_least_rate, faster

BATCH = 128
STEPS = 16  # batches per call
SIDE = 32
PHOTO = (500, 375)  # about what photo collections hold: 60 kB as JPEG
DISTINCT = 100  # synthesised photos; the rest are links to them


def benches(options: Options) -> Iterator[Bench]:
    yield batches(options)
    yield photos(options)


def batches(options: Options) -> Bench:
    """The same number of normalised, randomly flipped batches from each; the files are PNGs in their final size."""
    images = _smooth(BATCH * STEPS, (SIDE, SIDE))
    folder = options.scratch / "small"
    (folder / "class").mkdir(parents=True)
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / "class" / f"{i:05d}.png")
    ours = Batches(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), BATCH, 0, options.device)
    place = torch.arange(BATCH, device=options.device)
    steps = itertools.count(1)

    def memory() -> None:
        for _ in range(STEPS):
            step = next(steps)
            ours(step, noise.uniform(0, "flip", place, step) < 0.5)

    a = Case("data: ours, from memory", "float32", memory, BATCH * STEPS)
    b = Case("data: torchvision, 2 workers", "float32", torchvision_loader(folder), BATCH * STEPS)
    return Bench([a, b], [faster(a, b, 20), at_least_rate(a, 100_000)])


def torchvision_loader(folder: Path) -> Callable[[], None]:
    """An epoch of the loader that articles use; its workers live on from epoch to epoch."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    chain = [transforms.RandomHorizontalFlip(), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)]
    dataset = datasets.ImageFolder(folder, transforms.Compose(chain))
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=2, persistent_workers=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def photos(options: Options) -> Bench:
    """A folder of JPEGs to 64x64: the preprocess stage against a loop over PIL in one process."""
    count = 60 if options.quick else 3000
    folder, raw = options.scratch / "photos", options.scratch / "raw"
    (folder / "photos").mkdir(parents=True)
    for i, image in enumerate(_smooth(min(DISTINCT, count), PHOTO[::-1])):
        Image.fromarray(image).save(folder / f"photos/{i:05d}.jpg", quality=90)
    for i in range(DISTINCT, count):
        os.link(folder / f"photos/{i % DISTINCT:05d}.jpg", folder / f"photos/{i:05d}.jpg")
    data = parse({"dataset": ImageFolder(), "image_size": 64, "channels": 3, "resize": "squash"}, "data", Data)
    data.dataset.download(str(folder), raw)

    def ours() -> None:
        preprocess(data, raw, options.scratch / "processed")

    def plain() -> None:
        pixels = []
        for path in sorted(folder.rglob("*.jpg")):
            with Image.open(path) as image:
                pixels.append(np.asarray(image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC)))
        np.save(options.scratch / "plain.npy", np.stack(pixels).transpose(0, 3, 1, 2))

    a = Case("photos: ours, preprocess", "uint8", ours, count, warm=False)
    b = Case("photos: one PIL process", "uint8", plain, count, warm=False)
    return Bench([a, b], [faster(a, b, 1.8)], rounds=3)


def _smooth(count: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """(count, *shape, 3) uint8: shapes and grain, so that they compress about as photos do."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((count, 3, *shape), 128.0)
    for cells in (4, 16, 64):
        coarse = torch.randn(count, 3, cells, cells, generator=generator)
        images += 90 / cells**0.5 * torch.nn.functional.interpolate(coarse, shape, mode="bilinear")
    images += 4 * torch.randn(images.shape, generator=generator)
    return images.clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
