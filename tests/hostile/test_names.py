"""Folders, files and classes named by somebody with bad intent."""

import json
import os
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from ddpm.base.errors import printable
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split, read_manifest
from ddpm.sources import archives
from ddpm.variants.datasets.image_folder import ImageFolder
from tests.hostile.archives import header, tar
from tests.hostile.case import listing
from tests.hostile.pictures import data

# a folder's name -> the class's name
NAMES = {
    "<script>alert(1)</script>".replace("/", "\u2215"): "<script>alert(1)<\u2215script>",
    "a\nb": "a b", " ": "' '", "\x1b[2J\x07": "\\x1b[2J\\x07", "\u202egnp": "\\u202egnp",
    os.fsdecode(b"caf\xe9"): "caf\\udce9",
} | {
    name: name for name in
    ("'; DROP TABLE runs; --", r"$\frac{1}$", "a\\..\\..\\evil", "%s{0}{{x}}", "x" * 200, "-rf")
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("folder")


def test_any_folder_is_a_class_whose_name_can_be_shown():
    for name in NAMES:
        folder = Path("photos") / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (9, 9), "red").save(folder / f"{index}.png")
    before = listing()
    ImageFolder().download("photos", Path("raw"))
    preprocess(data(), Path("raw"), Path("processed"))
    assert sorted(read_manifest(Path("processed")).classes) == sorted(NAMES.values())
    assert json.loads(read_manifest(Path("processed")).model_dump_json())["counts"] == {"train": 12, "test": 12}
    assert len(open_split(Path("processed"), "train")[0]) == 12
    assert Image.open("processed/dataset.png").format == "PNG"
    assert {Path(name).parts[:2] for name in listing() - before} == {("work", "raw"), ("work", "processed")}


def test_a_million_members_are_not_kept():
    """5,000 stand for them: memory does not grow with their number."""
    tar(header() * 5000)
    tracemalloc.start()
    try:
        with archives.open_members(Path("photos.tar")) as members:
            assert sum(1 for _ in members) == 5000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # half of it for the last read, up to the archive's end


@pytest.mark.parametrize(("text", "shown"), [
    ("a\nb\tc", "a b c"), ("\x1b[31mred\x9b\x07", "\\x1b[31mred\\x9b\\x07"), ("\udcff", "\\udcff"),
    ("\u202e", "\\u202e"), ("grün · σ × 日本", "grün · σ × 日本"),
])  # fmt: skip
def test_a_message_is_one_line_that_steers_no_terminal(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()
