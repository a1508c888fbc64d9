"""What every dataset promises; where images come from: addresses, against a server on this machine; packings; folders;
and .npy and .npz files, with one line for each that holds no images."""

import gzip
import hashlib
import io
import pickle
import shutil
import socket
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.sources import published
from ddpm.variants.datasets.arrays import Arrays
from ddpm.variants.datasets.flowers import Flowers
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.hostile.files import Attack
from tests.hostile.sources import answer, serving

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


RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (6, 8, 9), dtype=np.uint8)


def read_arrays(source: Path, tmp_path: Path, **fields):
    dataset = Arrays(**fields)
    dataset.download(str(source), tmp_path / "raw")
    return dataset.read(tmp_path / "raw")


def opened(originals) -> np.ndarray:
    return np.stack([np.asarray(originals.open(i)) for i in range(len(originals.names))])


def saved(folder: Path, name: str = "own.npy", images: np.ndarray = GRAY, **others: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    if name.endswith(".npz"):
        np.savez_compressed(folder / name, images=images, **others)
    else:
        np.save(folder / name, images)
    return folder / name


@pytest.mark.parametrize(("layout", "channels"), [("NHWC", 3), ("NCHW", 5)])
def test_images_of_any_channels_in_either_layout(layout, channels, tmp_path):
    images = RNG.integers(0, 256, (4, 8, 9, channels), dtype=np.uint8)
    source = saved(tmp_path / "s", images=images if layout == "NHWC" else np.moveaxis(images, -1, 1))
    np.testing.assert_array_equal(opened(read_arrays(source, tmp_path, layout=layout)), images)


@pytest.mark.parametrize("labels", [None, np.array([3, 1, 3, 1, 7, 7]), np.array(["b", "a", "b", "a", "c", "c"])])
@pytest.mark.parametrize("key", ["labels", "y", None])
def test_gray_images_alone_or_with_labels_of_numbers_or_words_beside_them(labels, key, tmp_path):
    others = {} if labels is None else {key: labels}
    source = saved(tmp_path / "s", "own.npz", **others) if key else saved(tmp_path / "s")
    if key is None and labels is not None:
        saved(tmp_path / "s", "labels.npy", labels)
    expected = ["images"] * 6 if labels is None else list(map(str, labels))
    for i, given in enumerate((source, source.parent)):  # the file itself, and its folder
        originals = read_arrays(given, tmp_path / str(i))
        np.testing.assert_array_equal(opened(originals), GRAY)
        assert [originals.classes[label] for label in originals.labels] == expected
        assert originals.classes == tuple(sorted(set(expected)))
        assert (originals.is_test, originals.names[:2]) == (None, ["own/0", "own/1"])


@pytest.mark.parametrize("kind", [int, np.uint8, np.uint64])
def test_a_file_named_test_is_the_test_split_and_may_number_its_labels_in_another_type(kind, tmp_path):
    saved(tmp_path / "s", "train.npz", y=np.arange(6) % 2)
    saved(tmp_path / "s", "test.npz", GRAY[:2], y=np.arange(2, dtype=kind))
    originals = read_arrays(tmp_path / "s", tmp_path)
    assert originals.classes == ("0", "1")
    assert np.array(originals.names)[originals.is_test].tolist() == ["test/0", "test/1"]


def npz(suffix: str = ".npy", **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name + suffix, content)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


PICKLE = npy(np.array([[[Attack()]]], dtype=object))


@pytest.mark.parametrize(("name", "content", "line"), [
    ("own.npy", npy(GRAY.astype(np.float32)), "images of 'float32'; allowed: uint8"),
    ("own.npy", npy(GRAY[..., None]), r"shape \(6, 8, 9, 1\) and data\.dataset\.arrays\.layout: None; allowed: NHW"),
    ("own.npy", npy(np.zeros((2, 4), dtype=[("x", "u1")])), "allowed: uint8"),
    ("own.npy", PICKLE, "not an .npy file"), ("own.npz", npz(images=PICKLE), "not an .npy file"),
    ("own.npz", b"PK\3\4 and no more", "broken"),
    ("own.npz", npz(images=npy(GRAY), more=npy(GRAY)), r"own\.npz: 'more'"),
    ("own.npz", npz(y=npy(np.zeros(6, int))), "no arrays"),
    ("own.npz", npz(images=npy(GRAY), y=npy(np.zeros(5, int))), r"labels of 'int64' \(5,\); allowed: 6 whole"),
    ("own.npz", npz(**{"../images": npy(GRAY)}), "leads outside the archive"),
    ("own.zip", npz(".npz", images=npz(images=npy(GRAY))), "allowed in an archive"),
])  # fmt: skip
def test_what_does_not_hold_images_is_refused_in_one_line_and_leaves_nothing(name, content, line, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / name).write_bytes(content)
    with pytest.raises(UserError, match=line) as raised:
        read_arrays(tmp_path / "s" / name, tmp_path)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert not Path("pwned").exists()


def test_a_layout_has_the_axes_of_the_images(tmp_path):
    with pytest.raises(UserError, match="layout: NHWC; allowed: NHW"):
        read_arrays(saved(tmp_path / "s"), tmp_path, layout="NHWC")
