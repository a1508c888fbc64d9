"""Scores, baselines and curves that somebody else wrote."""

import json
from functools import partial
from pathlib import Path

from ddpm.base import files
from ddpm.runs.record import parse
from ddpm.verdicts import gate, sensitivity
from tests.hostile.case import Case
from tests.small import small

SCORES, BASELINE = Path("evaluate.json"), Path("baseline.json")
SANITY = Path("sanity.json")
DEEP = b"[" * 100_000
DIGITS = b"9" * 5000


def expected(name: str = "classifier.fd", **changes: str) -> bytes:
    """A baseline of one metric, its fields as JSON text."""
    fields = {"mean": "1", "sd": "0.1", "n": "5", "direction": '"lower"'}
    entry = ", ".join(f'"{key}": {value}' for key, value in (fields | changes).items())
    return f'{{"comparable": {{}}, "scores": {{{json.dumps(name)}: {{{entry}}}}}}}'.encode()


BASELINES: list[tuple[str, bytes, str]] = [
    ("a baseline 100,000 brackets deep", DEEP, "Invalid JSON"),
    ("a baseline of no metric", b'{"comparable": {}, "scores": {}}', "names no metric"),
    ("a mean out of any range", expected(mean="1e999"), "is not allowed"),
    ("a negative spread", expected(sd="-1"), "sd: -1 is not allowed"),
    ("seeds of 5,000 digits", expected(n=DIGITS.decode()), "baseline"),
    ("a direction turned round", expected(direction='"higher"'), "is wrong: 'lower'"),
    ("a metric with escape codes", expected("x\n\x1b[2J"), "unknown 'x\\n\\x1b[2J'"),
    ("a metric of 100,000 letters", expected("x" * 100_000), "unknown"),
]
read_baseline = partial(gate.read_baseline, BASELINE)
CASES = [Case("scores", name, partial(BASELINE.write_bytes, content), read_baseline, line)
         for name, content, line in BASELINES]  # fmt: skip
NOTICED = {"blur": {"mean": 2, "worse": 1}, "noise": {"mean": 1, "worse": 0.5}}
BLIND = {"images": 9, "samples": 9, "sets": 8, "data": sensitivity.data_params(small().data),
         "scores": {"classifier.fd": {"whole": 1, "noticed": NOTICED}}}  # fmt: skip
decide = partial(sensitivity.check_decisive, ["classifier.fd"], (), "gate.blind_to", small(sample={"count": 9}), SANITY)
CASES += [
    Case("scores", "a score that decides and is blind", partial(files.write_json, SANITY, BLIND), decide, "accept it"),
    Case("scores", "a baseline that is a folder", BASELINE.mkdir, read_baseline, "directory"),
    Case("scores", "a file that is a folder", SCORES.mkdir, partial(files.read_json, SCORES), "not valid JSON"),
    Case("scores", "a record that is deep", lambda: None, partial(parse, DEEP, "run.json"), "not a run's record"),
    Case("scores", "a record of 30 MB", lambda: None, partial(parse, bytes(30_000_000), "run.json"), "at most 100,000"),
]  # fmt: skip
