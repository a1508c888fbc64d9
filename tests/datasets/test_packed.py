"""Parquet files and webdataset's shards: what is read, in which order, with which classes and split."""

import io
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.data import preprocessing
from ddpm.data.data_params import Data
from ddpm.sources import packed
from ddpm.sources.dataset import Records
from tests.datasets.conftest import encoded, write_tar

PIXELS = [np.asarray(Image.open(io.BytesIO(encoded(i)))) for i in range(8)]


def read(name: str, source: Path, raw: Path, **fields: Any) -> Records:
    dataset = variant.build("datasets", {"name": name, name: fields}, "data.dataset")
    dataset.download(str(source), raw)
    return dataset.read(raw)


def numbers(records: Records) -> list[int]:
    """Which of PIXELS each image is."""
    opened = [np.asarray(records.open(i)) for i in range(len(records.names))]
    return [next(n for n, pixels in enumerate(PIXELS) if np.array_equal(pixels, image)) for image in opened]


def words(records: Records) -> list[str]:
    return [records.classes[label] for label in records.labels]


def write(path: Path, columns: Mapping[str, Any], names: list[str] | None = None, **options: Any) -> Path:
    """names: of the classes, as Hugging Face's library writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, **options)
    return path


def images(*which: int, struct: bool = True) -> list[Any]:
    return [{"bytes": encoded(i), "path": "a.png"} if struct else encoded(i) for i in which]


def shard(path: Path, *samples: dict[str, bytes | str]) -> Path:
    """Each sample: its members' suffixes and contents; its key is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = {f"{key}.{suffix}": content for key, one in enumerate(samples) for suffix, content in one.items()}
    write_tar(path, {name: text.encode() if isinstance(text, str) else text for name, text in contents.items()})
    return path


# --- parquet


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("labels", [[2, 0, 2], ["b", "a", "b"], pa.array(["b", "a", "b"]).dictionary_encode(), None])
def test_a_column_of_pictures_and_one_of_labels(struct, labels, tmp_path):
    columns = {"image": images(3, 1, 2, struct=struct)} | ({} if labels is None else {"label": labels})
    records = read("parquet", write(tmp_path / "own.parquet", columns), tmp_path / "raw")
    assert numbers(records) == [3, 1, 2]
    assert list(records.names) == ["own.parquet/0", "own.parquet/1", "own.parquet/2"]
    assert (records.names[-1], records.names[1:]) == ("own.parquet/2", ["own.parquet/1", "own.parquet/2"])
    assert records.is_test is None
    assert words(records) == (
        ["images"] * 3 if labels is None else [str(label) for label in pa.array(labels).to_pylist()]
    )


@pytest.mark.parametrize(
    ("labels", "names", "classes", "expected"),
    [
        ([2, 0, 2], ["zebra", "ant", "cow"], ("zebra", "ant", "cow"), ["cow", "zebra", "cow"]),  # Hugging Face's order
        ([10, 9, 10], None, ("9", "10"), ["10", "9", "10"]),  # that of numbers
    ],
)
def test_numbers_as_labels(labels, names, classes, expected, tmp_path):
    source = write(tmp_path / "own.parquet", {"image": images(0, 1, 2), "label": labels}, names)
    records = read("parquet", source, tmp_path / "raw")
    assert (records.classes, words(records)) == (classes, expected)


def test_the_columns_can_be_named(tmp_path):
    columns = {"img": images(1, 2), "mask": images(3, 4), "fine": [1, 0], "label": [0, 0]}
    source = write(tmp_path / "own.parquet", columns)
    records = read("parquet", source, tmp_path / "raw", image="mask", label="fine")
    assert (numbers(records), words(records)) == ([3, 4], ["1", "0"])


@pytest.mark.parametrize(
    "paths",
    [
        ("test-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002-ab12.parquet"),
        ("data/validation-0.parquet", "data/train-0.parquet", "data/train-1.parquet"),
        ("default/test/0000.parquet", "default/train/0000.parquet", "default/train/0001.parquet"),
    ],
)
def test_files_are_in_the_order_of_names_and_name_the_split(paths, tmp_path):
    order = sorted(paths)
    for number in (2, 0, 1):
        write(tmp_path / "s" / order[number], {"image": images(number), "label": [0]})
    records = read("parquet", tmp_path / "s", tmp_path / "raw")
    assert numbers(records) == [0, 1, 2]
    assert records.is_test is not None
    assert [name.rpartition("/")[0] for name in records.names] == order
    assert records.is_test.tolist() == ["train" not in path for path in order]


@pytest.mark.parametrize("paths", [("train-0.parquet", "train-1.parquet"), ("contest.parquet", "trains.parquet")])
def test_without_both_splits_there_is_none(paths, tmp_path):
    for path in paths:
        write(tmp_path / "s" / path, {"image": images(0)})
    assert read("parquet", tmp_path / "s", tmp_path / "raw").is_test is None


def test_memory_is_bounded_whatever_the_size_of_a_row_group(tmp_path):
    """10,000 pictures of 10 KB in one row group, 100 MB."""
    noise = np.random.default_rng(0).integers(0, 256, (10_000, 10_000), np.uint8)
    source = write(tmp_path / "own.parquet", {"image": [row.tobytes() for row in noise]}, data_page_size=2**20)
    dataset = variant.build("datasets", {"name": "parquet"}, "data.dataset")
    before = pa.total_allocated_bytes()
    assert max(pa.total_allocated_bytes() for _ in dataset.part(source, "own").samples) - before < 30e6


# --- webdataset


def test_samples_of_a_shard(tmp_path):
    """Other members are left alone, and so are hidden files and names without a suffix."""
    source = shard(
        tmp_path / "own.tar",
        {"png": encoded(3), "cls": "7", "json": "{}", "txt": "a caption"},
        {"cls": "2\n", "seg.png": encoded(0), "PNG": encoded(1)},
        {"png": encoded(2), "cls": "7"},
    )
    records = read("webdataset", source, tmp_path / "raw")
    assert numbers(records) == [3, 1, 2]
    assert list(records.names) == ["own.tar/0", "own.tar/1", "own.tar/2"]
    assert (records.classes, words(records)) == (("2", "7"), ["7", "2", "7"])


def test_members_that_belong_to_no_sample(tmp_path):
    write_tar(tmp_path / "own.tgz", {"README": b"x", ".b.png": b"x", "a/._c.png": b"x", "a.b/c.png": encoded(1)})
    assert list(read("webdataset", tmp_path / "own.tgz", tmp_path / "raw").names) == ["own.tgz/a.b/c"]
    # nothing is extracted
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {"classes.json", "images.arrow", "labels.npy"}


@pytest.mark.parametrize(
    ("members", "expected"), [({"cls": "cat", "txt": "5"}, "cat"), ({"json": '{"label": 4}', "txt": "5"}, "images")]
)
def test_where_the_label_is(members, expected, tmp_path):
    source = shard(tmp_path / "own.tar", {"jpg": encoded(1), **members})
    assert words(read("webdataset", source, tmp_path / "raw")) == [expected]


def test_names_that_are_no_utf8(tmp_path):
    source = shard(tmp_path / "own.tar", {"png": encoded(0)})
    header = bytearray(source.read_bytes())
    header[0] = 0xFF
    header[148:156] = b" " * 8  # its checksum counts as spaces
    header[148:156] = b"%06o\0 " % sum(header[:512])
    source.write_bytes(header)
    assert list(read("webdataset", source, tmp_path / "raw").names) == ["own.tar/\\xff"]


# --- both


def test_folders_parquet_and_shards_give_the_same_records(tmp_path):
    for number, (split, word) in enumerate(itertools.product(("test", "train"), "abcd")):
        path = tmp_path / "image_folder" / split / word / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(number))
        shard(tmp_path / "webdataset" / f"{split}-{word}.tar", {"png": encoded(number), "cls": word})
    for split, first in {"test": 0, "train": 4}.items():
        columns = {"image": images(*range(first, first + 4)), "label": list("abcd")}
        write(tmp_path / "parquet" / f"{split}-0.parquet", columns)
    for name in ("image_folder", "parquet", "webdataset"):
        records = read(name, tmp_path / name, tmp_path / "raw")
        assert (numbers(records), words(records)) == (list(range(8)), list("abcdabcd"))
        assert records.is_test is not None
        assert records.is_test.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("name", ["parquet", "webdataset"])
def test_a_missing_or_broken_picture_is_left_to_on_error(name, tmp_path, capsys):
    if name == "parquet":
        columns = {"image": [*images(*range(6), struct=False), None, b"text"], "label": [0] * 8}
        source = write(tmp_path / "own.parquet", columns)
    else:
        good = [{"png": encoded(i), "cls": "0"} for i in range(6)]
        source = shard(tmp_path / "own.tar", *good, {"cls": "0"}, {"png": "text", "cls": "0"})
    dataset = variant.build("datasets", {"name": name}, "data.dataset")
    data = Data(dataset=dataset, image_size=8, channels=3, test_fraction=0.5)
    dataset.download(str(source), tmp_path / "raw")
    lines = {f"{source.name}/6 (there is no picture)", f"{source.name}/7 (not an image, or not in a supported format)"}
    with pytest.raises(UserError, match="2 of 8 images cannot be read") as error:
        preprocessing.preprocess(data, tmp_path / "raw", tmp_path / "processed", workers=1)
    assert all(line in str(error.value) for line in lines)
    skip = data.model_copy(update={"on_error": "skip"})
    manifest = preprocessing.preprocess(skip, tmp_path / "raw", tmp_path / "processed", workers=1)
    assert (manifest.skipped, sum(manifest.counts.values())) == (2, 6)
    assert set(capsys.readouterr().err.splitlines()[-2:]) == {f"skipped {line}" for line in lines}


@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_written_at_a_time_changes_nothing(batch, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "BATCH", batch)
    source = write(tmp_path / "own.parquet", {"image": images(*range(7)), "label": list("abcdabc")})
    records = read("parquet", source, tmp_path / "raw")
    assert (numbers(records), words(records)) == (list(range(7)), list("abcdabc"))
    assert [records.names[i] for i in range(7)] == list(records.names)
