from pathlib import Path

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.data.processed import Manifest, open_split, read_manifest


@pytest.fixture
def processed(tmp_path) -> Path:
    """Three train and two test images of 4x4x1."""
    for split, count in {"train": 3, "test": 2}.items():
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "images.npy", np.arange(count * 16, dtype=np.uint8).reshape(count, 1, 4, 4))
        np.save(tmp_path / split / "labels.npy", np.arange(count) % 2)
    manifest = Manifest(
        dataset="digits",
        classes=("a", "b"),
        image_size=4,
        channels=1,
        counts={"train": 3, "test": 2},
        skipped=0,
        sha256={"train": "1", "test": "2"},
    )
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    return tmp_path


def test_opens_memory_mapped_and_read_only(processed):
    images, labels = open_split(processed, "train")
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert images.shape == (3, 1, 4, 4)
    assert labels.tolist() == [0, 1, 0]
    assert read_manifest(processed).counts == {"train": 3, "test": 2}


def test_missing_files_name_the_file_and_the_cure(processed):
    (processed / "test" / "images.npy").unlink()
    with pytest.raises(UserError, match=r"test/images\.npy.*dvc repro"):
        open_split(processed, "test")
    (processed / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json.*dvc repro"):
        read_manifest(processed)


def test_pickled_arrays_are_refused(processed):
    np.save(processed / "train" / "labels.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match=r"labels\.npy: missing or damaged"):
        open_split(processed, "train")
