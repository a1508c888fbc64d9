"""Every bad input of tests/hostile: exit code 2, one line that says what is wrong, bounded memory, nothing written."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from ddpm.base.errors import exit_code
from tests.hostile import archives, arrays, metrics, numbers, params, pictures, sources, weights
from tests.hostile.case import Case, bounded, listing

MODULES = (params, archives, pictures, arrays, weights, metrics, sources, numbers)
CASES: list[Case] = [case for module in MODULES for case in module.CASES]
LONGEST = 2000


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_it_ends_in_one_line_and_leaves_nothing(case):
    case.given()
    before = listing()
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()), bounded():
        assert exit_code(lambda: case.when() and None) == 2
    printed = stderr.getvalue()
    line = re.split(r"[\r\n]", printed.strip())[-1]  # after progress bars
    assert line.startswith("error: ")
    assert line.isprintable()
    assert len(line) < LONGEST
    assert len(re.findall("^error: ", printed, re.MULTILINE)) == 1
    assert "Traceback" not in printed
    assert case.line in line
    assert "hunter2" not in printed
    assert before <= listing()
    assert {Path(name).parts[:2] for name in listing() - before} <= {("work", name) for name in case.left}


def test_names_are_told_apart():
    assert len({(case.group, case.name) for case in CASES}) == len(CASES) >= 60
