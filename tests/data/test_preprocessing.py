import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.data import preprocessing
from ddpm.data.data_params import Data
from ddpm.data.pixels import to_pixels
from ddpm.data.preprocessing import preprocess, split_indices
from ddpm.data.processed import open_split, read_manifest
from ddpm.sources.dataset import Originals


def data_of(name: str = "image_folder", **values) -> Data:
    dataset = variant.variant_class("datasets", name)()
    return Data(**{"dataset": dataset, "image_size": 8, "channels": 3, **values})


def shown(image: Image.Image | np.ndarray, data: Data) -> np.ndarray:
    return to_pixels(image, data.shape, data.resize)


def gradient(width: int, height: int) -> Image.Image:
    """Smooth, and different in every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((255 * np.stack([x, y, x * y], axis=2)).astype(np.uint8))


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two classes of 40 and 20 JPEGs, in a raw folder; red shows the class."""
    rng = np.random.default_rng(0)
    for name, count in {"cats": 40, "dogs": 20}.items():
        (tmp_path / "source" / name).mkdir(parents=True)
        for i in range(count):
            picture = Image.new("RGB", (11, 9), (255 * (name == "dogs"), *map(int, rng.integers(0, 256, 2))))
            picture.save(tmp_path / "source" / name / f"{i}.jpg", quality=95)
    return pack(tmp_path)


def pack(folder: Path) -> Path:
    data_of().dataset.download(str(folder / "source"), folder / "raw")
    return folder / "raw"


def test_arrays_manifest_and_picture(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "CHUNK_BYTES", 20 * 288)  # of the images that are decoded at once
    manifest = preprocess(data_of(image_size=(8, 12)), raw, tmp_path / "processed")
    assert manifest == read_manifest(tmp_path / "processed")
    assert (manifest.dataset, manifest.shape) == ("image_folder", (3, 8, 12))
    assert manifest.classes == ("cats", "dogs")
    assert (manifest.counts, manifest.skipped) == ({"train": 54, "test": 6}, 0)
    for split, counts in {"train": [36, 18], "test": [4, 2]}.items():
        images, labels = open_split(tmp_path / "processed", split)
        assert images.shape == (sum(counts), 3, 8, 12)
        assert np.bincount(labels).tolist() == counts
        np.testing.assert_array_equal(images[:, 0].mean(axis=(1, 2)) > 128, labels == 1)
        assert manifest.sha256[split] == files.sha256(tmp_path / "processed" / split)
    with Image.open(tmp_path / "processed" / "dataset.png") as picture:
        assert min(picture.size) > 50


def test_the_same_images_give_the_same_bytes_wherever_they_are(tmp_path, monkeypatch):
    digests, raw = [], []
    for place, shade in {"here/zoo": 0, "there/other": 0, "third/zoo": 9}.items():
        folder = tmp_path / place
        (folder / "cats").mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (9, 9), (shade, i, i)).save(folder / f"cats/{i}.png")
        monkeypatch.chdir(folder.parent)
        packed = shutil.make_archive(str(folder), "gztar", folder.parent, folder.name)
        for source in (folder.name, str(folder), packed):  # relative, absolute, and an archive with the folder's name
            data, out = data_of(source=source), tmp_path / f"out{len(digests)}"
            data.dataset.download(source, out / "raw")
            preprocess(data, out / "raw", out / "processed")
            digests.append(files.sha256(out / "processed"))
            raw += [files.sha256(out / "raw")] * (source != packed)
    assert len(set(digests[:6])) == len(set(raw[:4])) == 1
    assert len(set(digests)) == len(set(raw)) == 2


def test_broken_images_are_named_and_leave_nothing_or_are_skipped(raw, tmp_path, capsys):
    (tmp_path / "source/cats/text.png").write_text("no image")
    half = tmp_path / "source/dogs/half.png"
    gradient(60, 60).save(half)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    damaged = pack(tmp_path)
    with pytest.raises(UserError, match=r"data\.on_error: 2 of 62 .*cats/text\.png \(.*dogs/half\.png \("):
        preprocess(data_of(), damaged, tmp_path / "processed")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "raw"}
    manifest = preprocess(data_of(on_error="skip"), damaged, tmp_path / "processed")
    assert manifest.skipped == 2
    assert sum(manifest.counts.values()) == 60
    images, labels = open_split(tmp_path / "processed", "train")
    assert len(images) == len(labels) == manifest.counts["train"]
    np.testing.assert_array_equal(images[:, 0].mean(axis=(1, 2)) > 128, labels == 1)
    assert "skipped cats/text.png" in capsys.readouterr().err


labels = st.lists(st.integers(0, 4), min_size=1, max_size=80)


def originals(labels: list[int]) -> Originals:
    pictures = np.zeros((len(labels), 1, 1), dtype=np.uint8)
    return Originals.of_arrays({"all": (pictures, np.array(labels))}, tuple("abcde"))


@settings(max_examples=30)
@given(labels=labels, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63 - 1))
def test_a_split_is_a_partition_stratified_by_class(labels, fraction, seed):
    train, test = split_indices(originals(labels), fraction, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert abs(len(test) - fraction * len(labels)) <= 1
    for label in range(5):
        in_class = labels.count(label)
        assert abs(sum(labels[i] == label for i in test) - fraction * in_class) <= 1


def test_a_split_depends_on_the_seed_alone_and_is_the_same_on_every_machine():
    train, test = split_indices(originals([0, 1] * 6), 0.25, 0)
    assert (train.tolist(), test.tolist()) == ([1, 6, 5, 2, 11, 4, 10, 3, 9], [0, 7, 8])
    assert split_indices(originals([0, 1] * 6), 0.25, 1)[1].tolist() != [0, 7, 8]


SIDES = st.integers(1, 40)


@settings(max_examples=20)
@given(size=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES), channels=st.sampled_from([1, 3]))
def test_any_squash_is_torchvisions_and_any_crop_is_pils(size, target, channels):
    transforms = pytest.importorskip("torchvision.transforms")
    image, mode = gradient(*size), "L" if channels == 1 else "RGB"
    resize = transforms.Resize(target, transforms.InterpolationMode.BICUBIC, antialias=True)
    expected = {
        "squash": resize(image.convert(mode)),
        "crop": ImageOps.fit(image.convert(mode), target[::-1], Image.Resampling.BICUBIC),
    }
    for how, picture in expected.items():
        found = shown(image, data_of(resize=how, channels=channels, image_size=target))
        assert found.shape == (channels, *target)
        difference = found.transpose(1, 2, 0) - np.asarray(picture, dtype=float).reshape(*target, channels)
        assert not difference.any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_accepted(mode, channels):
    white = Image.new("RGB", (20, 20), (255, 255, 255))
    image = white.convert({"PA": "P", "RGBa": "RGBA"}.get(mode, mode)).convert(mode)
    pixels = shown(image, data_of(channels=channels))
    assert pixels.shape == (channels, 8, 8)
    assert pixels.min() >= 254


def test_transparency_is_laid_on_white():
    palette, buffer = Image.new("P", (20, 20), 0), io.BytesIO()
    palette.putpalette([10, 20, 30])
    palette.save(buffer, "PNG", transparency=0)
    assert shown(Image.open(buffer), data_of()).min() == 255
    for mode in ("RGBA", "LA"):
        clear, half = (Image.new("RGBA", (20, 20), (0, 0, 0, alpha)).convert(mode) for alpha in (0, 128))
        assert shown(clear, data_of()).min() == 255
        assert abs(int(shown(half, data_of()).max()) - 127) <= 1


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (128, 0), (129, 1), (65535, 255), (257 * 90, 90)])
def test_16_bits_become_8(level, expected):
    buffer, format = io.BytesIO(), {0: "TIFF", 129: "PPM"}.get(level, "PNG")
    Image.fromarray(np.full((9, 9), level, dtype=np.uint16)).save(buffer, format)
    with Image.open(buffer) as image:
        assert shown(image, data_of(channels=1)).max() == expected


TURN = struct.pack("<HHII", 0x0112, 3, 1, 6)  # a quarter turn, as EXIF's tag
ODD = struct.pack("<HHII", 0x010F, 5, 1, 38)  # the camera's name as a fraction


FORMATS = [("JPEG", ODD + TURN), ("PNG", ODD + TURN), ("WEBP", ODD + TURN), ("TIFF", TURN)]


@pytest.mark.parametrize(("format", "tags"), FORMATS)
def test_exif_rotation_is_undone(format, tags):
    """Stored turned, shown upright: the same pixels as the upright image."""
    upright, buffer = gradient(32, 24), io.BytesIO()
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags) // 12) + tags + bytes(12)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(format, {})
    upright.transpose(Image.Transpose.ROTATE_90).save(buffer, format, exif=exif, **options)
    with Image.open(buffer) as image:
        found = shown(image, data_of()).astype(int)
    assert np.abs(found - shown(upright, data_of())).max() <= (3 if format == "JPEG" else 0)
