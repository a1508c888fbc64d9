"""Whoever adds a variant as docs/variants.md says finds that it passes: the page's examples, in a copy of the tree.

What "Add one" lists is done here, and nothing else: the files are written, their names go into the tables that the page
names, and the tests run that it names.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks

SHOWN = (block for block in blocks() if block.language == "python" and block.page == "variants.md")
FILES = {block.mark.removeprefix("file: "): block.text for block in SHOWN}
HERE = Path(__file__).parent  # of those that the page links to
FILES |= {f"ddpm/{path.relative_to(HERE)}": path.read_text() for path in sorted(HERE.glob("variants/*/*.py"))}
EDITED = ("ddpm", "docs", "tests")  # folders of which the copy has its own
FAMILIES = ("schedules", "samplers", "losses")


def names(family: str) -> list[str]:
    return [Path(path).stem for path in FILES if re.match(f"ddpm/variants/{family}/[^_]", path)]


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project with the examples in it."""
    copy = tmp_path / "project"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.name in EDITED:
            shutil.copytree(entry, copy / entry.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not entry.name.startswith(".") or entry.name == ".github":
            (copy / entry.name).symlink_to(entry)
    for path, text in FILES.items():
        assert not (copy / path).exists(), f"{path} is no example any more"
        (copy / path).write_text(text)
    page = copy / "docs/variants.md"
    text = page.read_text()
    for family in FAMILIES:
        for name in names(family):  # the first table, in alphabetical order
            row = re.search(rf"(?m)^\|.*\| ddpm/variants/{family}/ \| (.*) \|$", text)
            listed = ", ".join(sorted([*row[1].split(", "), name]))
            text = text[: row.start(1)] + listed + text[row.end(1) :]
    page.write_text(text)
    orders = copy / "tests/variants/samplers/test_convergence.py"
    listed = "".join(f'"{name}", ' for name in names("samplers"))
    orders.write_text(orders.read_text().replace("NO_ODE = {", f"NO_ODE = {{{listed}"))
    return copy


@pytest.mark.slow
def test_the_examples_pass_the_contract_tests_and_the_pages_name_them(project):
    added = [name for family in FAMILIES for name in names(family)]
    chosen = " or ".join([*added, "has_an_order", "listed"])
    tests = [
        *(f"tests/variants/{family}" for family in FAMILIES),
        "tests/docs/test_readme.py",
        "tests/base/test_variants.py",
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rA", *tests, "-k", chosen]
    environment = os.environ | {"PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.findall(r"(?m)^PASSED (\S+)", done.stdout)
    for name in added:
        assert sum(name in test for test in passed) > 2, name
