"""What is stored is a test: every verdict, judged again from its records."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddpm.report import judgement as shown
from ddpm.study import judging, loading
from ddpm.study.ledger import open_ledger

ROOT = Path(__file__).parents[2]
STORED = sorted((ROOT / "metrics/studies").glob("*/verdict.json"))


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from differences(one.get(key), other.get(key), f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{place}[{number}]")
    elif isinstance(one, float) and isinstance(other, float):
        if not math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9):
            yield f"{place}: {one} is now {other}"
    elif one != other:
        yield f"{place}: {one!r} is now {other!r}"


def test_there_are_stored_verdicts():
    assert len(STORED) > 60


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_a_stored_verdict_is_what_its_records_give(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    judgement = judging.judge(open_ledger(loading.load(Path(f"studies/{path.parent.name}.yaml"))))
    now = json.loads(json.dumps(shown.to_dict(judgement)))
    assert list(differences(json.loads(path.read_text(encoding="utf-8")), now)) == []
