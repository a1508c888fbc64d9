"""Where images come from: addresses, against a server on this machine; packings; and folders."""

import gzip
import hashlib
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.sources import published
from ddpm.variants.datasets.flowers import Flowers
from ddpm.variants.datasets.image_folder import ImageFolder
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
    if packing == "folder of gz":
        for file in (archive.parent / name for name in dataset.md5):
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    dataset.download(str(archive if packing == "archive" else archive.parent), tmp_path / "raw")
    originals = dataset.read(tmp_path / "raw")
    assert originals.is_test.tolist() == [False] * 50 + [True] * 10
    found = np.asarray(originals.open(12)).transpose(2, 0, 1).ravel()
    np.testing.assert_array_equal(found, expected.reshape(10, -1)[2])


@pytest.mark.parametrize(("size", "cut", "line"), [
    (2**10, 12, r"test_batch\.gz is truncated"), (2**20, 0, "larger than 524,288"),
])  # fmt: skip
def test_a_gz_that_is_not_the_published_file_is_refused(size, cut, line, small, tmp_path, monkeypatch):
    dataset, source = small("cifar10")
    Path(source).unlink()
    batch = Path(source).with_name("test_batch")
    batch.unlink()
    batch.with_suffix(".gz").write_bytes(gzip.compress(bytes(size))[: -cut or None])
    monkeypatch.setattr(published, "MAX_FILE_BYTES", 2**19)
    with pytest.raises(UserError, match=line):
        dataset.download(str(batch.parent), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("folders", [
    ("photos/daisy", "photos/dandelion", "photos/roses", "photos/sunflowers", "photos/tulips"),
    ("flowers/daisy", "flowers/dandelion", "flowers/rose", "flowers/sunflower", "flowers/tulip"),
    ("Daisy", "Dandelions", "Rose", "Sunflowers", "Tulip"),
])  # fmt: skip
def test_flowers_in_any_layout(folders):
    classes, _ = Flowers().arrange(sorted([*(f"{folder}/1.jpg" for folder in folders), "else/2.jpg"]))
    assert list(classes.values()) == ["daisy", "dandelion", "roses", "sunflowers", "tulips"]


@pytest.mark.parametrize(("classes", "held_out"), [
    # the top folders are the classes
    ({"zoo/cats/a/1.png": "cats", "zoo/cats/2.png": "cats", "zoo/dogs/3.png": "dogs", "zoo/4.png": "images"}, None),
    # or the split
    ({"d/test/cats/1.png": "cats", "d/train/cats/1.png": "cats", "d/train/dogs/1.png": "dogs",
      "d/val/dogs/2.png": "dogs"}, {"d/test/cats/1.png", "d/val/dogs/2.png"}),
])  # fmt: skip
def test_folders_of_images_are_classes_or_a_split_of_classes(classes, held_out):
    assert ImageFolder().arrange(list(classes)) == (classes, held_out)
