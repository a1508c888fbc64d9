"""Every bad input of tests/hostile: exit code 2, one line that says what is wrong, bounded memory, nothing written."""

import re
from pathlib import Path

import pytest

from tests.hostile import archives, arrays, metrics, numbers, packed, params, pictures, sources, weights
from tests.hostile.case import Case, run

MODULES = (params, archives, packed, pictures, arrays, weights, metrics, sources, numbers)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
LONGEST = 2000


pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_it_ends_in_one_line_and_leaves_nothing(case):
    outcome = run(case)
    assert outcome.code == 2
    assert outcome.line.startswith("error: ")
    assert outcome.line.isprintable()
    assert len(outcome.line) < LONGEST
    assert len(re.findall("^error: ", outcome.printed, re.MULTILINE)) == 1
    assert "Traceback" not in outcome.printed
    assert case.line in outcome.line
    assert "hunter2" not in outcome.printed
    new = {
        name for name in outcome.after - outcome.before if Path(name).parts[:2] not in {("work", n) for n in case.left}
    }
    assert not new
    assert outcome.before <= outcome.after


def test_names_are_told_apart():
    assert len({(case.group, case.name) for case in CASES}) == len(CASES) >= 60
