"""The real files, if they are there."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from ddpm.base import variant


def originals(name: str, source: Path, raw: Path):
    if not source.exists():
        pytest.skip(f"{source} is absent")
    dataset = variant.variant_class("datasets", name)()
    dataset.download(str(source), raw)
    return dataset.read(raw)


def test_mnist(real_files, tmp_path):
    found = originals("mnist", real_files / "mnist", tmp_path / "raw")
    assert np.bincount(found.labels).sum() == 70_000
    assert found.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert found.is_test.sum() == 10_000


@pytest.mark.slow
def test_cifar10(real_files, tmp_path):
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for file in real_files.glob("cifar10/*.xz"):  # each is kept compressed
        (batches / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
    if not any(batches.iterdir()):
        pytest.skip(f"{real_files / 'cifar10'} holds no .xz files")
    found = originals("cifar10", batches, tmp_path / "raw")
    assert np.bincount(found.labels).tolist() == [6000] * 10
    assert [found.classes[label] for label in found.labels[:3]] == ["frog", "truck", "truck"]
    assert np.asarray(found.open(0)).shape == (32, 32, 3)
