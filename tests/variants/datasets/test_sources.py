"""Addresses, against a server on this machine."""

import hashlib
import shutil
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from tests.hostile.sources import answer, serving


@pytest.fixture
def server(tmp_path):
    """The address of a server of the files in ``source``."""

    def respond(to) -> None:
        path = tmp_path / "source" / to.path.lstrip("/")
        content = path.read_bytes() if path.is_file() else b""
        answer(content, 200 if content else 404, Content_Length=str(len(content)))(to)

    with serving(respond) as host:
        yield f"http://{host}"


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
@pytest.mark.parametrize("public", [True, False])
def test_the_public_address_and_a_mirror(public, name, small, server, tmp_path, monkeypatch):
    dataset, _ = small(name)
    if public:
        file = "" if name == "mnist" else Path(dataset.address).name
        monkeypatch.setattr(type(dataset), "address", f"{server}/{file}")
    dataset.download(None if public else server, tmp_path / "raw")
    assert len(dataset.read(tmp_path / "raw").labels) > 0
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == sorted(dataset.md5)


def test_the_public_archive_of_flowers_is_verified(small, server, tmp_path, monkeypatch):
    dataset, _ = small("flowers")
    shutil.make_archive(str(tmp_path / "flower_photos"), "gztar", tmp_path / "source")
    archive = shutil.move(tmp_path / "flower_photos.tar.gz", tmp_path / "source" / "flower_photos.tgz")
    monkeypatch.setattr(type(dataset), "address", f"{server}/flower_photos.tgz")
    with pytest.raises(UserError, match=r"flower_photos\.tgz: wrong checksum"):
        dataset.download(None, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    monkeypatch.setattr(type(dataset), "sha256", hashlib.sha256(Path(archive).read_bytes()).hexdigest())
    dataset.download(None, tmp_path / "raw")
    assert len(dataset.read(tmp_path / "raw").names) == 15


def test_a_relative_folder_starts_at_the_repository(small, tmp_path, monkeypatch):
    dataset, _ = small("image_folder")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    dataset.download("source", tmp_path / "raw")
    assert dataset.read(tmp_path / "raw").classes == ("cats", "dogs")
