"""Parquet files and webdataset's shards that lie, or are not what they should be."""

import json
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from ddpm.base import variant
from ddpm.data.preprocessing import preprocess
from tests.hostile.archives import END, header
from tests.hostile.case import Case
from tests.hostile.pictures import data, encoded

PICTURE = encoded("PNG")
RAW = Path("raw")
Content = bytes | str


def table(path: str = "own.parquet", classes: list[str] | None = None, **columns: Any) -> Path:
    """A file of these columns; ``image`` is two pictures by default. classes: as Hugging Face's library names them."""
    made = pa.table({"image": [PICTURE, PICTURE]} | columns)
    if classes is not None:
        info = {"info": {"features": {"label": {"names": classes}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(info)})
    place = Path("own") / path
    place.parent.mkdir(exist_ok=True)
    parquet.write_table(made, place)
    return place


def cut(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])


def flipped(path: Path) -> None:
    """The file with one byte in the middle of its pictures' pages changed: no checksum notices, a decoder does."""
    content = bytearray(path.read_bytes())
    content[8:16] = b"\xff" * 8  # a page's header
    path.write_bytes(content)


def bomb() -> None:
    """20 rows of one picture of 100 MB, which Parquet writes once and compresses."""
    pictures = pa.DictionaryArray.from_arrays(pa.array([0] * 20, pa.int8()), [bytes(100 * 2**20)])
    Path("own").mkdir()
    parquet.write_table(pa.table({"image": pictures}), "own/own.parquet", compression="zstd", store_schema=False)


def shard(members: dict[str, Content], path: str = "own.tar", end: bytes = END) -> Path:
    place = Path("own") / path
    place.parent.mkdir(exist_ok=True)
    parts = []
    for name, content in members.items():
        value = content.encode() if isinstance(content, str) else content
        parts.append(header(name, size=len(value)) + value + bytes(-len(value) % tarfile.BLOCKSIZE))
    place.write_bytes(b"".join(parts) + end)
    return place


def whole(**columns: Any) -> None:
    """A table that is good, and one of these columns."""
    table("a.parquet", label=[0, 1])
    table("b.parquet", **columns)


def read(name: str, prepare: bool = False, **fields: Any) -> None:
    dataset = variant.build("datasets", {"name": name, name: fields}, "data.dataset")
    dataset.download("own", RAW)
    if prepare:
        preprocess(data(dataset=dataset), RAW, Path("processed"), workers=1)


def one(**members: Content) -> Callable[[], object]:
    """A shard of one sample: a picture and these members."""
    return partial(shard, {"a.png": PICTURE} | {f"a.{suffix}": content for suffix, content in members.items()})


NULLS = pa.array([None, None], pa.binary())
OUTSIDE = [{"bytes": PICTURE, "path": None}, {"bytes": None, "path": "/etc/passwd"}]
TWO: dict[str, Content] = {"a.png": PICTURE, "b.png": PICTURE}
# name, what is given, the variant's fields, the line
Given = tuple[str, Callable[[], object], dict[str, Any], str]
PARQUET: list[Given] = [
    ("Parquet without a column of images", partial(table, image=[1, 2]), {}, "needs one column of pictures"),
    ("Parquet with two", partial(table, mask=[b"", b""]), {}, "those that could be: ['image', 'mask']"),
    ("Parquet without the named column", table, {"image": "img"}, "needs the column 'img' of pictures"),
    ("Parquet without the named labels", table, {"label": "fine"}, "needs one column 'fine' of whole numbers"),
    ("Parquet with labels of floats", partial(table, label=[0.5, 1.0]), {}, "['image: binary', 'label: double']"),
    ("Parquet with lists of labels", partial(table, label=[[0], [1]]), {}, "label: list<"),
    ("Parquet with a label in one row only", partial(table, label=[None, 3]), {}, "own.parquet/1: label 3, and"),
    ("Parquet with labels in one file only", whole, {}, "b.parquet/0: no label, and a.parquet/0: label 0"),
    ("Parquet with words and numbers", partial(whole, label=["a", "b"]), {}, "b.parquet/0: label 'a', and"),
    (
        "Parquet with other classes in another file",
        partial(whole, label=[0, 1], classes=["a", "b"]),
        {},
        "b.parquet: names the classes ('a', 'b')",
    ),
    ("Parquet with a class out of range", partial(table, label=[0, 2], classes=["a", "b"]), {}, "own.parquet/1:"),
    ("Parquet with a class below 0", partial(table, label=[0, -1]), {}, "own.parquet/1: label -1; allowed: 0"),
    ("Parquet with captions", partial(table, label=["a", "a " * 99]), {}, "allowed: 1 to 100 characters"),
    ("Parquet without rows", partial(table, image=NULLS[:0]), {}, "own.parquet: no images in it"),
    ("Parquet of null images", partial(table, image=NULLS), {}, "own.parquet: no images in it"),
    ("half a Parquet file", lambda: cut(table(), 300), {}, "own.parquet: truncated or broken Parquet file"),
    ("an empty Parquet file", lambda: cut(table(), 0), {}, "own.parquet: truncated or broken Parquet file"),
    ("a Parquet file with a broken page", lambda: flipped(table()), {}, "truncated or broken Parquet file"),
    ("2 GB of zeros in 10 KB of Parquet", bomb, {}, "own.parquet: "),
    (
        "Parquet of train, test and neither",
        lambda: [table(f"{name}.parquet") for name in ("train", "test", "more")],
        {},
        "more.parquet: its name must say whether it is train or test",
    ),
    ("a folder without Parquet", lambda: shard({}), {}, "no parquet files in own; allowed: .parquet"),
]
SHARDS: list[Given] = [
    ("a shard without images", lambda: shard({"a.cls": "1", "a.txt": "a cat"}), {}, "own.tar: no images in it"),
    ("an empty shard", lambda: shard({}), {}, "own.tar: no images in it"),
    ("a shard with a picture of 3 GB", lambda: shard({}, end=header("a.png", size=3 << 30)), {}, "holds more than"),
    ("a shard with a picture of 300 MB", lambda: shard({}, end=header("a.png", size=300 << 20)), {}, "314,572,800 by"),
    (
        "attributes of 3 GB in a shard",
        lambda: shard({}, end=header(kind=tarfile.XHDTYPE, size=3 << 30)),
        {},
        "a header",
    ),
    ("a shard with two pictures in a sample", one(jpg=PICTURE), {}, "own.tar/a.jpg: a second picture of its sample"),
    ("a shard with a sample in two places", lambda: shard(TWO | {"a.cls": "1"}), {}, "own.tar/a: a second sample of"),
    ("a shard with a label in one sample only", lambda: shard(TWO | {"b.cls": "1"}), {}, "own.tar/b: label 1, and"),
    ("a shard with a class below 0", one(cls="-1"), {}, "own.tar/a: label -1; allowed: 0 and more"),
    ("a shard with a class that is no text", one(cls=b"\xff"), {}, "own.tar/a.cls: must be text"),
    ("a shard with an empty class", one(cls=""), {}, "own.tar/a: label ''; allowed: 1 to 100 characters"),
]


CASES = [
    Case("packed", name, given, partial(read, kind, **fields), line)
    for kind, cases in (("parquet", PARQUET), ("webdataset", SHARDS))
    for name, given, fields, line in cases
]
CASES += [
    Case(
        "packed",
        "an image that is only a path",
        partial(table, image=OUTSIDE),
        partial(read, "parquet", prepare=True),
        "own.parquet/1 (there is no picture)",
        frozenset({"raw"}),
    ),
]
