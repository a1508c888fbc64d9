"""What ``make`` prints while it works."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# a Python that makes an environment of itself, and prints what it is asked to do
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
"-m pip") echo pip at work ;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def make(*arguments: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    run = subprocess.run(["make", *arguments], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


def test_setup_says_what_it_does_and_how_long_that_takes_before_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, name)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    told = make("setup", f"PYTHON={python}")
    before = " ".join(told[: told.index("pip at work")])
    assert "into .venv" in before
    assert "minutes" in before
    ready = told[-1]
    assert "source .venv/bin/activate" in ready
    assert make("setup", f"PYTHON={python}") == [ready]
