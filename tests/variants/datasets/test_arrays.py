"""Images from .npy and .npz files: every shape that is allowed, and one line for each that is not."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.variants.datasets.arrays import Arrays
from tests.hostile.files import Attack

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (6, 8, 9), dtype=np.uint8)


def read(source: Path, tmp_path: Path, **fields):
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
    np.testing.assert_array_equal(opened(read(source, tmp_path, layout=layout)), images)


@pytest.mark.parametrize("labels", [None, np.array([3, 1, 3, 1, 7, 7]), np.array(["b", "a", "b", "a", "c", "c"])])
@pytest.mark.parametrize("key", ["labels", "y", None])
def test_gray_images_alone_or_with_labels_of_numbers_or_words_beside_them(labels, key, tmp_path):
    others = {} if labels is None else {key: labels}
    source = saved(tmp_path / "s", "own.npz", **others) if key else saved(tmp_path / "s")
    if key is None and labels is not None:
        saved(tmp_path / "s", "labels.npy", labels)
    expected = ["images"] * 6 if labels is None else list(map(str, labels))
    for i, given in enumerate((source, source.parent)):  # the file itself, and its folder
        originals = read(given, tmp_path / str(i))
        np.testing.assert_array_equal(opened(originals), GRAY)
        assert [originals.classes[label] for label in originals.labels] == expected
        assert originals.classes == tuple(sorted(set(expected)))
        assert (originals.is_test, originals.names[:2]) == (None, ["own/0", "own/1"])


@pytest.mark.parametrize("kind", [int, np.uint8, np.uint64])
def test_a_file_named_test_is_the_test_split_and_may_number_its_labels_in_another_type(kind, tmp_path):
    saved(tmp_path / "s", "train.npz", y=np.arange(6) % 2)
    saved(tmp_path / "s", "test.npz", GRAY[:2], y=np.arange(2, dtype=kind))
    originals = read(tmp_path / "s", tmp_path)
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
        read(tmp_path / "s" / name, tmp_path)
    assert "\n" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert not Path("pwned").exists()


def test_a_layout_has_the_axes_of_the_images(tmp_path):
    with pytest.raises(UserError, match="layout: NHWC; allowed: NHW"):
        read(saved(tmp_path / "s"), tmp_path, layout="NHWC")
