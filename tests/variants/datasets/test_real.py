"""The real files, if they are there."""

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
