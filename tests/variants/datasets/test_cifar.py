import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.sources import published


def test_a_raw_file_that_was_changed_is_never_unpickled(small, tmp_path):
    dataset, source = small("cifar100")
    dataset.download(source, tmp_path / "raw")
    (tmp_path / "raw" / "test").write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match="test: wrong checksum"):
        dataset.read(tmp_path / "raw")


@pytest.mark.parametrize("packing", ["archive", "folder of gz", "folder"])
def test_every_packing_gives_the_same_images(packing, small, tmp_path):
    dataset, source = small("cifar10")
    archive = Path(source)
    expected = np.frombuffer(pickle.loads((archive.parent / "data_batch_2").read_bytes())["data"], np.uint8)  # noqa: S301
    if packing != "archive":
        archive.unlink()
    for file in (archive.parent / name for name in dataset.md5) if packing == "folder of gz" else ():
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    dataset.download(str(archive if packing == "archive" else archive.parent), tmp_path / "raw")
    originals = dataset.read(tmp_path / "raw")
    assert originals.is_test.tolist() == [False] * 50 + [True] * 10
    found = np.asarray(originals.open(12)).transpose(2, 0, 1).ravel()
    np.testing.assert_array_equal(found, expected.reshape(10, -1)[2])


@pytest.mark.parametrize(
    ("packed", "line"),
    [
        (gzip.compress(bytes(2**10), mtime=0)[:-12], r"test_batch\.gz is truncated"),
        (gzip.compress(bytes(2**20), mtime=0), "larger than 524,288"),
    ],
    ids=["truncated", "large"],
)
def test_a_gz_that_is_not_the_published_file_is_refused(packed, line, small, tmp_path, monkeypatch):
    dataset, source = small("cifar10")
    Path(source).unlink()
    batch = Path(source).with_name("test_batch")
    batch.unlink()
    batch.with_suffix(".gz").write_bytes(packed)
    monkeypatch.setattr(published, "MAX_FILE_BYTES", 2**19)
    with pytest.raises(UserError, match=line):
        dataset.download(str(batch.parent), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
