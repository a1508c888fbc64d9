"""Every bad input of this folder: exit code 2, one line that says what is wrong, bounded memory, nothing written."""

import contextlib
import io
import json
import os
import re
import resource
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ddpm.base.errors import exit_code, printable
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split, read_manifest
from ddpm.sources import archives
from tests.hostile import files, sources, test_numbers, values
from tests.hostile.files import DATA, END, fetch, header

HEADROOM = 2**29  # bytes of address space that reading a bad input may take beyond what the process has
LONGEST = 2000
# a folder's name -> the class's name
NAMES = {
    "<script>alert(1)</script>".replace("/", "\u2215"): "<script>alert(1)<\u2215script>",
    "a\nb": "a b", " ": "' '", "\x1b[2J\x07": "\\x1b[2J\\x07", "\u202egnp": "\\u202egnp",
    os.fsdecode(b"caf\xe9"): "caf\\udce9",
} | {
    name: name for name in
    ("'; DROP TABLE runs; --", r"$\frac{1}$", "a\\..\\..\\evil", "%s{0}{{x}}", "x" * 200, "-rf",
    "grün · σ × 日本")
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("folder")


def listing() -> frozenset[str]:
    """Everything in the working folder and next to it."""
    return frozenset(str(path.relative_to(Path.cwd().parent)) for path in Path.cwd().parent.rglob("*"))


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Allow the process HEADROOM more bytes, else MemoryError; no effect if the system has no such limit."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + HEADROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


CASES = [(module, name) for module in (files, test_numbers, sources, values) for name in module.CASES]


@pytest.mark.parametrize(("module", "name"), CASES)
def test_it_ends_in_one_line_and_leaves_nothing(module, name):
    given, read, words = module.CASES[name]
    given()
    before = listing()
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()), bounded():
        assert exit_code(lambda: read() and None) == 2
    printed = stderr.getvalue()
    line = re.split(r"[\r\n]", printed.strip())[-1]  # after progress bars
    assert line.startswith("error: ")
    assert line.isprintable()
    assert len(line) < LONGEST
    assert len(re.findall("^error: ", printed, re.MULTILINE)) == 1
    assert "Traceback" not in printed
    assert re.search(".*".join(map(re.escape, words.split(" ... "))), line), line
    assert "hunter2" not in printed
    assert before <= listing()
    allowed = {("work", each) for each in (test_numbers.LEFT if module is test_numbers else ())}
    assert {Path(each).parts[:2] for each in listing() - before} <= allowed


def test_any_folder_is_a_class_whose_name_can_be_shown():
    for name in NAMES:
        folder = Path("photos") / name
        folder.mkdir(parents=True)
        for index in range(2):
            Image.new("RGB", (9, 9), "red").save(folder / f"{index}.png")
    before = listing()
    fetch("photos")
    preprocess(DATA, Path("raw"), Path("processed"))
    assert sorted(read_manifest(Path("processed")).classes) == sorted(NAMES.values())
    assert json.loads(read_manifest(Path("processed")).model_dump_json())["counts"] == {"train": 13, "test": 13}
    assert len(open_split(Path("processed"), "train")[0]) == 13
    assert Image.open("processed/dataset.png").format == "PNG"
    assert {Path(name).parts[:2] for name in listing() - before} == {("work", "raw"), ("work", "processed")}


def test_a_million_members_are_not_kept():
    """3,000 stand for them: memory does not grow with their number."""
    Path("photos.tar").write_bytes(header() * 3000 + END)
    tracemalloc.start()
    with archives.open_members(Path("photos.tar")) as members:
        assert sum(1 for _ in members) == 3000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # half of it for the last read, up to the archive's end


@pytest.mark.parametrize(("text", "shown"), [
    ("a\nb\tc", "a b c"), ("\x1b[31mred\x9b\x07", "\\x1b[31mred\\x9b\\x07"), ("\udcff", "\\udcff"),
    ("\u202e", "\\u202e"), ("grün · σ × 日本", "grün · σ × 日本"),
])  # fmt: skip
def test_a_message_is_one_line_that_steers_no_terminal(text, shown):
    assert printable(text) == shown
    assert printable(text).isprintable()
