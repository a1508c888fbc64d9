"""Addresses, against a server on this machine."""

import hashlib
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ddpm.base.errors import UserError


class Handler(http.server.BaseHTTPRequestHandler):
    folder: Path

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[str, type[Handler]]]:
    handler = type("TestHandler", (Handler,), {"folder": tmp_path / "source"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", handler
        running.shutdown()


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
@pytest.mark.parametrize("public", [True, False])
def test_the_public_address_and_a_mirror(public, name, small, server, tmp_path, monkeypatch):
    dataset, _ = small(name)
    if public:
        file = "" if name == "mnist" else Path(dataset.address).name
        monkeypatch.setattr(type(dataset), "address", f"{server[0]}/{file}")
    dataset.download(None if public else server[0], tmp_path / "raw")
    assert len(dataset.read(tmp_path / "raw").labels) > 0
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == sorted(dataset.md5)


def test_the_address_of_an_archive(small, server, tmp_path):
    dataset, _ = small("image_folder")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "source")
    shutil.move(tmp_path / "photos.zip", tmp_path / "source" / "photos.zip")
    dataset.download(f"{server[0]}/photos.zip", tmp_path / "raw")
    assert dataset.read(tmp_path / "raw").classes == ("cats", "dogs")


def test_the_public_archive_of_flowers_is_verified(small, server, tmp_path, monkeypatch):
    dataset, _ = small("flowers")
    shutil.make_archive(str(tmp_path / "flower_photos"), "gztar", tmp_path / "source")
    archive = shutil.move(tmp_path / "flower_photos.tar.gz", tmp_path / "source" / "flower_photos.tgz")
    monkeypatch.setattr(type(dataset), "address", f"{server[0]}/flower_photos.tgz")
    with pytest.raises(UserError, match=r"flower_photos\.tgz: wrong checksum"):
        dataset.download(None, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
    monkeypatch.setattr(type(dataset), "sha256", hashlib.sha256(Path(archive).read_bytes()).hexdigest())
    dataset.download(None, tmp_path / "raw")
    assert len(dataset.read(tmp_path / "raw").names) == 15


def test_image_folder_needs_the_address_of_an_archive(small, tmp_path):
    dataset, _ = small("image_folder")
    with pytest.raises(UserError, match="archive"):
        dataset.download("http://127.0.0.1:9/photos", tmp_path / "raw")


def test_a_relative_folder_starts_at_the_repository(small, tmp_path, monkeypatch):
    dataset, _ = small("image_folder")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    dataset.download("source", tmp_path / "raw")
    assert dataset.read(tmp_path / "raw").classes == ("cats", "dogs")
