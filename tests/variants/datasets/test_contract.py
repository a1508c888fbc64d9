"""What every dataset promises."""

import socket
from unittest.mock import Mock

import numpy as np
import pytest

from ddpm.base import files, variant
from ddpm.base.errors import UserError

NAMES = variant.names("datasets")
SOURCELESS = [name for name in NAMES if variant.variant_class("datasets", name).packaged]
OWN = ["arrays", "image_folder"]
PUBLIC = [name for name in NAMES if name not in (*SOURCELESS, *OWN)]


@pytest.mark.parametrize("name", NAMES)
def test_downloads_the_same_bytes_each_time_and_reads(name, small, tmp_path):
    dataset, source = small(name)
    for folder in ("raw", "again"):
        dataset.download(source, tmp_path / folder)
    assert files.sha256(tmp_path / "raw") == files.sha256(tmp_path / "again")
    originals = dataset.read(tmp_path / "raw")
    assert len(set(originals.names)) == len(originals.names) == len(originals.labels)
    assert len(set(originals.classes)) == len(originals.classes)
    assert set(originals.labels) <= set(range(len(originals.classes)))
    for index in (0, -1):
        assert np.asarray(originals.open(index)).dtype == np.uint8


@pytest.mark.parametrize("name", PUBLIC)
def test_offline_is_one_line_that_tells_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", Mock(side_effect=OSError("no network")))
    dataset = variant.variant_class("datasets", name)()
    with pytest.raises(UserError, match="no network") as error:
        dataset.download(None, tmp_path / "raw")
    assert dataset.address in str(error.value)
    assert "data.source: downloads" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_source_that_is_not_there(name, tmp_path):
    dataset = variant.variant_class("datasets", name)()
    with pytest.raises(UserError, match=r"data\.source"):
        dataset.download("no/such/folder", tmp_path / "raw")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_wrong_checksum_is_refused_and_leaves_nothing(name, small, tmp_path, monkeypatch):
    dataset, source = small(name)
    file = next(iter(dataset.md5))
    monkeypatch.setitem(dataset.md5, file, "0" * 32)
    with pytest.raises(UserError, match=f"{file}: wrong checksum"):
        dataset.download(source, tmp_path / "raw")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
