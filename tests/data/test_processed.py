import shutil
from pathlib import Path

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split, read_manifest


@pytest.fixture
def processed(digits, tmp_path) -> Path:
    return Path(shutil.copytree(digits, tmp_path / "processed"))


def test_opens_memory_mapped_and_read_only(digits):
    images, labels = open_split(digits, "train")
    assert isinstance(images, np.memmap)
    assert not images.flags.writeable
    assert len(images) == len(labels) == read_manifest(digits).counts["train"]


def test_missing_files_name_the_file_and_the_cure(processed):
    (processed / "test" / "images.npy").unlink()
    with pytest.raises(UserError, match=r"test/images\.npy.*dvc repro"):
        open_split(processed, "test")
    (processed / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest\.json.*dvc repro"):
        read_manifest(processed)
