"""Readers of outside files: whatever the bytes, they return the right value or raise UserError, and nothing else."""

import gzip
import json
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.data.pixels import BROKEN, to_pixels
from ddpm.data.processed import open_split, read_manifest
from ddpm.model.model_file import load_model
from ddpm.params import config, file
from ddpm.referee import gate
from ddpm.runs import alike, record
from ddpm.sampling.samples import read_samples
from ddpm.sources import archives
from ddpm.sources.cifar import _contents
from tests import scored
from tests.hostile import files
from tests.hostile.files import BASELINE, BATCH, MODEL, SAMPLES
from tests.hostile.test_bad_inputs import bounded
from tests.small import CPU, PARAMS

quick = settings(max_examples=25, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


pytestmark = pytest.mark.usefixtures("folder")


def damage(draw, whole: bytes, end: int | None = None) -> bytes:
    """``whole`` with some bytes before ``end`` changed, cut out, inserted or cut off."""
    content = bytearray(whole[:end])
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        new = draw(st.sampled_from([b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f"]) | st.binary(max_size=4))
        content[place : place + draw(st.integers(0, 4))] = new
    kept = content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content
    return bytes(kept) + (b"" if end is None else whole[end:])


def understood_or_refused(read) -> None:
    with bounded():
        try:
            read()
        except UserError:
            return


def unpack(path: Path) -> None:
    with archives.open_members(path) as members:
        for member in members:
            member.stream.read()


def decode(path: Path) -> None:
    try:
        with Image.open(path) as image:
            assert to_pixels(image, files.DATA.shape, files.DATA.resize).shape == (3, 8, 8)
    except BROKEN as error:
        raise UserError(str(error)) from error


NAMES = ("a/1.png", "x" * 120 + "/2.png", "ü.png")
TAR = b"".join(files.header(name, size=150) + (b"hello" * 30).ljust(512, b"\0") for name in NAMES) + files.END
PICTURES = [("PNG",), ("JPEG",), ("GIF", "P"), ("BMP",), ("TIFF",), ("WEBP",), ("PPM",), ("PNG", "P")]
ARRAY = files.shaped("(1, 1, 4, 4)") + bytes(16)
WHOLE = files.model()
HEADER = 8 + int.from_bytes(WHOLE[:8], "little")  # otherwise nearly all damage would be in weights
# a file, what it holds, how much of that is damaged, and what reads it
READERS = [
    ("a.zip", [files.zipped(content=b"hello" * 30)], None, partial(unpack, Path("a.zip"))),
    ("a.tar", [TAR], None, partial(unpack, Path("a.tar"))),
    ("a.tar.gz", [gzip.compress(TAR)], None, partial(unpack, Path("a.tar.gz"))),
    ("a.png", [files.encoded(*kind) for kind in PICTURES], None, partial(decode, Path("a.png"))),
    (BATCH, [files.batch(), b""], None, partial(_contents, BATCH)),
    (SAMPLES, [ARRAY], None, partial(read_samples, SAMPLES)),
    ("train/images.npy", [ARRAY], None, partial(open_split, Path(), "train")),
    (BASELINE, [files.stored()], None, partial(gate.read, BASELINE)),
    (MODEL, [WHOLE], HEADER, partial(load_model, MODEL, CPU)),
]  # fmt: skip


@pytest.mark.parametrize(("path", "contents", "end", "read"), READERS, ids=[str(path) for path, *_ in READERS])
@quick
@given(data=st.data())
def test_a_damaged_file(path, contents, end, read, data):
    files.processed()
    Path(path).write_bytes(damage(data.draw, data.draw(st.sampled_from(contents)), end))
    understood_or_refused(read)


@quick
@given(text=st.text("ab:[]{}*&!<>|-? \n\"'0.e#%@,~", max_size=40) | st.text(max_size=30))
def test_params(text):
    understood_or_refused(lambda: config.parse(file.decode(text, "params.yaml"), "params.yaml"))


@quick
@given(key=st.sampled_from(sorted(PARAMS)), value=JSON)
def test_params_with_any_value_at_a_section(key, value):
    understood_or_refused(lambda: config.parse({**PARAMS, key: value}, "params.yaml"))


@quick
@given(value=JSON, place=st.sampled_from(["classes", "counts", "image_size", "sha256", "skipped", "dataset"]))
def test_other_json(value, place):
    """In a manifest, in the metadata of a model file, and for a baseline."""
    files.processed(**{place: value})
    understood_or_refused(lambda: read_manifest(Path()))
    MODEL.write_bytes(files.described(json.dumps(value)))
    understood_or_refused(lambda: load_model(MODEL, CPU))
    BASELINE.write_text(json.dumps(value))
    understood_or_refused(lambda: gate.read(BASELINE))


@quick
@given(data=st.data())
def test_records(data):
    """What is understood can be written, read again, compared and shown."""
    whole = scored.result()
    values = json.loads(whole.text())
    key = data.draw(st.sampled_from(sorted(values)))
    if data.draw(st.booleans()):
        content = damage(data.draw, whole.text().encode())
    elif isinstance(values[key], dict):
        content = json.dumps(values | {key: values[key] | data.draw(st.dictionaries(st.text(), JSON))}).encode()
    else:
        content = json.dumps(values | {key: data.draw(JSON)}).encode()

    def use() -> None:
        run = record.parse_record(content, "run.json")
        assert record.parse_record(run.text().encode(), "run.json").text() == run.text()
        alike.matching([run, whole], scored.working())
        alike.differences(run, whole.params)
        assert isinstance(run.scores_by_images, dict)

    understood_or_refused(use)
