"""The record of a run: what is written is read again, and nothing else is."""

import json
import math

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base import files
from ddpm.base.errors import UserError, printable
from ddpm.runs import record
from ddpm.runs.record import Costs
from tests.scored import bare

COMPARABLE = {"samples": 8, "sampling": {"steps": 4}}


@settings(deadline=None, max_examples=25)
@given(st.floats(-1e100, 1e100), st.integers(0, 2**63 - 1))
def test_a_record_is_read_as_it_was_written(score, seed):
    written = bare(seed, scores={"classifier.fd": score}, costs=Costs(images_seen=3, seconds={"train": 0.5}))
    text = written.text()
    assert record.parse_record(text.encode(), "run.json").text() == text
    assert record.parse_record(text.encode(), "run.json").scores["classifier.fd"] == score


def test_a_curve_keeps_its_numbers():
    rows = [{"images": 64, "classifier.fd": 0.1 + 0.2, "classifier.kid_mean": ""}, {"images": 128, "classifier.fd": 1}]
    old = {**json.loads(bare(curve=record.table(rows)).text()), "noise_levels": {"columns": {}}}  # of version 0.2
    read = record.parse_record(json.dumps(old), "run.json")
    assert "noise_levels" not in read.text()
    assert read.scores_by_images == {64: {"classifier.fd": 0.1 + 0.2}, 128: {"classifier.fd": 1.0}}
    assert record.table([{"t": 1, "error": 1 / 3}], digits=6).columns == {"t": (1.0,), "error": (0.333333,)}
    assert record.table([]) is None


def changed(*path: str | int, to):
    def change(values: dict) -> None:
        *outer, last = path
        for part in outer:
            values = values[part]
        values[last] = to

    return change


def compared(**content):
    """A fingerprint of that content, with its hash."""

    def change(values: dict) -> None:
        comparable = COMPARABLE | content
        values["fingerprint"] = {"hash": files.digest(comparable), "comparable": comparable}

    return change


NAN, HUGE = float("nan"), "a number of many digits"
TABLE = {"images": [16], "fd": [1.0]}
# the key that the refusal names -> what is wrong there
REFUSED = {
    "format": [changed("format", to="2"), changed("format", to=3)],
    "seed": [changed("seed", to=value) for value in ("0", -1, True, 2**63)],
    "params": [
        changed("params", "seed", to=7), changed("params", "<b>", to=1), changed("params", "train.steps", to=NAN),
        changed("params", "deep", to=[{"a": -math.inf}]), lambda values: values.pop("params"),
    ],
    "name": [changed("name", to=name) for name in ("a\x1b[31mred", "<script>alert(1)</script>", "x" * 201, "")],
    "scores": [changed("scores", "classifier.fd", to=value) for value in (None, "1.5", NAN, 1e101, True)]
    + [changed("scores", to={}), changed("diverged", to="the loss is not finite")],
    "hash": [changed("fingerprint", "comparable", "samples", to=9), changed("fingerprint", "hash", to="a" * 64)],
    "comparable": [compared(samples="8"), compared(samples=0), compared(sampling=[1]), compared(sampling=NAN)],
    "code": [changed("code", to={path: "0" * 12}) for path in ("/dev/zero", "a/../../b", ".")]
    + [changed("code", to={"ddpm/base": "not a digest"})],
    "curve": [
        changed("curve", to={"columns": TABLE | change})
        for change in ({"fd": [1.0, 2.0]}, {"images": [None]}, {"images": [1.5]}, {"fd": [NAN]})
    ],
    "costs": [changed("costs", name, to=value) for name, value in (
        ("parameters", -1), ("images_seen", HUGE), ("seconds", {"a": NAN}), ("seconds", {"a": 1e308}))],
    "extra": [changed("extra", to=1)],
    "finished": [changed("finished", to=value) for value in ("yesterday", "2026-01-01T00:00:00", 5)],
}  # fmt: skip


@pytest.mark.parametrize("key", REFUSED)
def test_a_record_that_is_not_one_is_refused_with_its_file_and_key(key):
    for change in REFUSED[key]:
        values = json.loads(bare().text())
        change(values)
        text = json.dumps(values).replace(json.dumps(HUGE), "1" * 4000)
        with pytest.raises(UserError, match=r"^runs/a\.json: ") as refusal:
            record.parse_record(text.encode(), "runs/a.json")
        assert key in str(refusal.value)
        assert len(printable(str(refusal.value))) < 2100


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 50_000, b'{"a": ' * 10_000])
def test_bytes_that_are_no_json_object_are_refused(text):
    with pytest.raises(UserError, match=r"run\.json"):
        record.parse_record(text, "run.json")


def test_the_schema_in_the_repository_is_that_of_the_record():
    schema = json.loads(record.SCHEMA.read_text())
    assert schema == record.schema()
    jsonschema.validate(json.loads(bare().text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(bare().text()) | {"seed": "0"}, schema)
