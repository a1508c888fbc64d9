"""Small files in each dataset's own format, and where the real ones may be."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm.base import variant
from ddpm.sources.dataset import Dataset
from ddpm.sources.published import Published


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def unpacked(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else gzip.decompress(path.with_name(f"{path.name}.gz").read_bytes())


def _mnist(dataset: Published, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for prefix, count in {"train": 30, "t10k": 10}.items():
        pictures = rng.integers(0, 256, (count, 28, 28))
        for file, array in {"images-idx3": pictures, "labels-idx1": np.arange(count) % 10}.items():
            (folder / f"{prefix}-{file}-ubyte.gz").write_bytes(gzip.compress(idx(array), mtime=0))
    return folder


def _cifar(dataset, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    classes = [f"class {i}" for i in range(10)]
    contents = {dataset.meta: {dataset.class_key: classes}}
    for files in dataset.batches.values():
        for file in files:
            rows = rng.integers(0, 256, (10, 3072), dtype=np.uint8)
            contents[file] = {"data": rows, dataset.label_key: list(range(10)), "filenames": ["x.png"] * 10}
    archive = folder / Path(dataset.address).name
    with tarfile.open(archive, "w:gz") as tar:
        for file, content in contents.items():
            (folder / file).write_bytes(pickle.dumps(content, protocol=3))
            tar.add(folder / file, f"batches/{file}")
    return archive


def _photos(classes: tuple[str, ...], folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(folder / name / f"{i}.jpg")
    (folder / "LICENSE.txt").write_text("not an image")
    return folder


def _arrays(dataset: Dataset, folder: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(folder / "own.npz", images=rng.integers(0, 256, (6, 8, 9), dtype=np.uint8), y=np.arange(6) % 2)
    return folder


BUILDERS = {
    "arrays": _arrays, "mnist": _mnist, "fashion_mnist": _mnist, "cifar10": _cifar, "cifar100": _cifar,
    "digits": lambda dataset, folder: None,
    "flowers": lambda dataset, folder: _photos(("daisy", "dandelion", "rose", "sunflowers", "tulip"), folder),
    "image_folder": lambda dataset, folder: _photos(("cats", "dogs"), folder),
}  # fmt: skip


@pytest.fixture
def small(tmp_path, monkeypatch):
    """name -> the dataset, with the checksums of a small source in place of the published ones, and that source."""

    def build(name: str) -> tuple[Dataset, str | None]:
        assert name in BUILDERS, f"{__file__}: add a small source of {name} to BUILDERS"
        dataset = variant.variant_class("datasets", name)()
        folder = tmp_path / "source"
        folder.mkdir()
        source = BUILDERS[name](dataset, folder)
        if isinstance(dataset, Published):
            sums = {
                file: hashlib.md5(unpacked(folder / file), usedforsecurity=False).hexdigest() for file in dataset.md5
            }
            monkeypatch.setattr(type(dataset), "md5", sums)
        return dataset, None if source is None else str(source)

    return build
