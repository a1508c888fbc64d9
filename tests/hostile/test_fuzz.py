"""Readers of outside files: whatever the bytes, they return the right value or raise UserError, and nothing else."""

import gzip
import io
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

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
from tests.hostile import archives as traps
from tests.hostile import arrays, metrics, pictures, weights
from tests.hostile.case import bounded
from tests.small import PARAMS

quick = settings(max_examples=40, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


pytestmark = pytest.mark.usefixtures("folder")


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """``whole`` with some bytes changed, cut out, inserted or cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        new = draw(st.sampled_from([b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f"]) | st.binary(max_size=4))
        content[place : place + draw(st.integers(0, 4))] = new
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


def understood_or_refused(read, *others: type[BaseException]) -> None:
    with bounded():
        try:
            read()
        except (UserError, *others):
            return


NAMES = ("a/1.png", "x" * 120 + "/2.png", "ü.png")
TAR = b"".join(traps.header(name, size=150) + (b"hello" * 30).ljust(512, b"\0") for name in NAMES) + traps.END
ARCHIVES = {".zip": traps.zipped(content=b"hello" * 30), ".tar": TAR, ".tar.gz": gzip.compress(TAR)}


@quick
@given(data=st.data(), suffix=st.sampled_from(sorted(ARCHIVES)))
def test_archives(data, suffix):
    path = Path(f"archive{suffix}")
    path.write_bytes(data.draw(damaged(ARCHIVES[suffix])))

    def read() -> None:
        with archives.open_members(path) as members:
            for member in members:
                member.stream.read()

    understood_or_refused(read)


PICTURES = [pictures.encoded(*kind) for kind in
            (("PNG",), ("JPEG",), ("GIF", "P"), ("BMP",), ("TIFF",), ("WEBP",), ("PPM",), ("PNG", "P"))]  # fmt: skip


@quick
@given(data=st.data(), whole=st.sampled_from(PICTURES))
def test_pictures(data, whole):
    content, chosen = data.draw(damaged(whole)), pictures.data()

    def read() -> None:
        with Image.open(io.BytesIO(content)) as image:
            assert to_pixels(image, chosen.shape, chosen.resize).shape == (3, 8, 8)

    understood_or_refused(read, *BROKEN)


@quick
@given(content=damaged(arrays.batch()) | st.binary(max_size=60))
def test_cifar_batches(content):
    arrays.BATCH.write_bytes(content)
    understood_or_refused(lambda: _contents(arrays.BATCH))


@quick
@given(content=damaged(arrays.shaped("(1, 1, 4, 4)") + bytes(16)))
def test_samples_and_processed_arrays(content):
    arrays.SAMPLES.write_bytes(content)
    understood_or_refused(lambda: read_samples(arrays.SAMPLES))
    if not Path("train").exists():
        arrays.processed()
    Path("train/images.npy").write_bytes(content)
    understood_or_refused(lambda: open_split(Path(), "train"))


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
def test_manifests(value, place):
    if not Path("train").exists():
        arrays.processed()
    whole = json.loads(Path("manifest.json").read_text())
    Path("other").mkdir(exist_ok=True)
    Path("other/manifest.json").write_text(json.dumps(whole | {place: value}))
    understood_or_refused(lambda: read_manifest(Path("other")))


@quick
@given(data=st.data())
def test_records(data):
    """What is understood can be written, read again, compared and shown."""
    whole = scored.result()
    values = json.loads(whole.text())
    key = data.draw(st.sampled_from(sorted(values)))
    if data.draw(st.booleans()):
        content = data.draw(damaged(whole.text().encode()))
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


@quick
@given(content=damaged(metrics.stored()) | JSON.map(lambda value: json.dumps(value).encode()))
def test_baselines(content):
    metrics.BASELINE.write_bytes(content)
    understood_or_refused(lambda: gate.read(metrics.BASELINE))


@quick
@given(data=st.data(), config=st.booleans())
def test_model_files(data, config):
    if not weights.PATH.exists():
        weights.model()
        Path("whole").write_bytes(weights.PATH.read_bytes())
    whole = Path("whole").read_bytes()
    if config:
        # the header alone: otherwise nearly all damage would be in weights
        size = 8 + int.from_bytes(whole[:8], "little")
        content = data.draw(damaged(whole[:size])) + whole[size:]
    else:
        content = save({"x": torch.zeros(2)}, {"ddpm": json.dumps(data.draw(JSON))})
    weights.PATH.write_bytes(content)
    understood_or_refused(lambda: load_model(weights.PATH, torch.device("cpu")))
