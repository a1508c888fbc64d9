"""Scores, baselines and curves that somebody else wrote."""

import json
from functools import partial
from pathlib import Path

from ddpm.referee import gate
from ddpm.runs.record import parse_record
from tests.hostile.case import Case
from tests.scored import result

SCORES, BASELINE = Path("evaluate.json"), Path("baseline.json")
DEEP = b"[" * 100_000
DIGITS = b"9" * 5000


def stored(**changes: str) -> bytes:
    """A baseline of five runs, fields of each changed, as JSON text."""
    fields = ({**json.loads(result(seed=seed).text())} for seed in range(5))
    runs = ({key: json.dumps(value) for key, value in run.items()} | changes for run in fields)
    entries = ("{" + ", ".join(f'"{key}": {value}' for key, value in run.items()) + "}" for run in runs)
    return f"[{', '.join(entries)}]".encode()


BASELINES: list[tuple[str, bytes, str]] = [
    ("a baseline 100,000 brackets deep", DEEP, "Invalid JSON"),
    ("a baseline of no runs", b"[]", "0 runs; allowed: at least 5"),
    ("a baseline of one run five times", stored(seed="7", params="{}"), "5 runs; allowed: at least 5, each with"),
    ("a score out of any range", stored(scores='{"classifier.fd": 1e999}'), "is not allowed"),
    ("a metric with escape codes", stored(scores='{"x\\n\\u001b[2J": 1}'), "is not allowed"),
    ("a score that is text", stored(scores='{"classifier.fd": "0.25"}'), "is not allowed"),
    ("records of another version, with more in them", stored(format="2", mean="1.0"), "baseline.json: "),
    ("a fingerprint that is another's", stored(fingerprint='{"hash": "0123456789ab", "comparable": {}}'), "digest of"),
]
read_baseline = partial(gate.read, BASELINE)
CASES = [Case("scores", name, partial(BASELINE.write_bytes, content), read_baseline, line)
         for name, content, line in BASELINES]  # fmt: skip
CASES += [
    Case("scores", "a baseline that is a folder", BASELINE.mkdir, read_baseline, "directory"),
    Case("scores", "a record that is deep", lambda: None, partial(parse_record, DEEP, "run.json"),
         "not a run's record"),
    Case("scores", "a record of 30 MB", lambda: None, lambda: parse_record(bytes(30_000_000), "run.json"),
         "at most 100,000"),
]  # fmt: skip
