"""The record of a run: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.runs import library, record
from ddpm.runs.record import Costs, Fingerprint, Record

COMPARABLE = {"samples": 8, "sampling": {"steps": 4}}


def run(seed: int = 0, name: str = "workspace", **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "format": 1,
        "name": name,
        "seed": seed,
        "finished": record.now(),
        "params": {"seed": seed, "train.steps": 10, "model.unet.multipliers": [1, 2], "data.source": None},
        "fingerprint": Fingerprint(hash=files.digest(COMPARABLE), comparable=COMPARABLE),
        "scores": {"classifier.fd": 1.5},
    }
    return Record(**fields | changes)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**63 - 1))
def test_a_record_is_read_as_it_was_written(score: float, seed: int) -> None:
    written = run(seed, scores={"classifier.fd": score}, costs=Costs(images_seen=3, seconds={"train": 0.5}))
    text = written.text()
    assert record.parse(text.encode(), "run.json").text() == text
    assert record.parse(text.encode(), "run.json").scores["classifier.fd"] == score


def test_curve_and_noise_levels_keep_their_numbers() -> None:
    rows = [{"images": 64, "classifier.fd": 0.1 + 0.2, "classifier.kid_mean": ""}, {"images": 128, "classifier.fd": 1}]
    read = record.parse(run(curve=record.table(rows)).text().encode(), "run.json")
    assert read.learned == {64: {"classifier.fd": 0.1 + 0.2}, 128: {"classifier.fd": 1.0}}
    assert record.table([{"t": 1, "error": 1 / 3}], digits=6) == record.Table(
        columns=("t", "error"), rows=((1.0, 0.333333),)
    )
    assert record.table([]) is None


def changed(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        *outer, last = path
        for part in outer:
            values = values[part]
        values[last] = to

    return change


REFUSED = {
    "format": changed("format", to=2),
    "seed": changed("seed", to="0"),
    "seed ": changed("seed", to=-1),
    "params": changed("params", "seed", to=7),
    "name": changed("name", to="a\x1b[31mred"),
    "name ": changed("name", to="<script>alert(1)</script>"),
    "name  ": changed("name", to="x" * 201),
    "params ": changed("params", "<b>", to=1),
    "scores": changed("scores", "classifier.fd", to=None),
    "scores ": changed("scores", "classifier.fd", to="1.5"),
    "hash": changed("fingerprint", "comparable", "samples", to=9),
    "code": changed("code", to={"ddpm/base": "not a digest"}),
    "curve": changed("curve", to={"columns": ["images", "fd"], "rows": [[1.0]]}),
    "extra": changed("extra", to=1),
    "finished": changed("finished", to="yesterday"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_record_that_is_not_one_is_refused_with_its_file_and_key(key: str) -> None:
    values = json.loads(run().text())
    REFUSED[key](values)
    with pytest.raises(UserError, match=r"^runs/a\.json: not a run's record: ") as refusal:
        record.parse(json.dumps(values).encode(), "runs/a.json")
    assert key.strip() in str(refusal.value)
    assert len(str(refusal.value)) < 1000
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_score_is_finite(number: str) -> None:
    with pytest.raises(UserError, match="scores"):
        record.parse(run().text().replace("1.5", number).encode(), "run.json")


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 50_000, b'{"a": ' * 10_000])
def test_bytes_that_are_no_json_object_are_refused(text: bytes) -> None:
    with pytest.raises(UserError, match="not a run's record"):
        record.parse(text, "run.json")


def test_a_file_of_a_million_keys_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(dict.fromkeys(map(str, range(10**6)), 0)))
    with pytest.raises(UserError, match="at most 100,000 bytes"):
        record.read(tmp_path / "run.json")


def test_a_listing_goes_on_without_what_is_not_a_record(tmp_path: Path) -> None:
    for seed in range(3):
        record.write(run(seed), tmp_path / f"arm-{seed}.json")
    record.write(run(0), tmp_path / "copy.json")
    (tmp_path / "broken.json").write_text("{")
    listing = library.folder(tmp_path)
    assert sorted(each.seed for each in listing.records) == [0, 1, 2]
    assert len(listing.notes) == 1
    assert "broken.json" in listing.notes[0]


def test_a_record_of_other_params_or_code_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ddpm").mkdir()
    Path("ddpm/loss.py").write_text("one")
    of = run(code={"ddpm/loss.py": files.md5(Path("ddpm/loss.py"))[:12]})
    flat = dict(of.params) | {"device": "cpu", "compare.threshold": 0.1}
    assert library.why_stale(of, flat) == ""
    assert "train.steps" in library.why_stale(of, flat | {"train.steps": 11})
    assert "not known" in library.why_stale(run(), flat)
    Path("ddpm/loss.py").write_text("two")
    assert "ddpm/loss.py" in library.why_stale(of, flat)


def test_the_schema_in_the_repository_is_that_of_the_record() -> None:
    schema = json.loads(record.SCHEMA.read_text())
    assert schema == record.schema()
    jsonschema.validate(json.loads(run().text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(run().text()) | {"seed": "0"}, schema)
