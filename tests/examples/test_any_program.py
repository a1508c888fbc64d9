"""The example of a program in a repository of its own: its pages' blocks, its night of edits, its simulation."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks
from tests.study_project import commit, git

BLOCKS = [block for block in blocks() if block.mark == "run: program"]


@pytest.fixture(autouse=True)
def _example(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples/any_program", tmp_path / "example", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path / "example")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.syspath_prepend(Path.cwd())
    git("init", "--quiet", "--initial-branch=main", "--template=")
    commit("x")


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=[block.page for block in BLOCKS])
def test_what_a_page_prints_works_in_the_example(block):
    names = "import sys; from ddpm.cli import main; main()"
    Path("ddpm").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{names}" "$@"\n')
    Path("ddpm").chmod(0o755)
    commit("x")
    text = block.text.replace("--trials 12", "--trials 4")
    found_first = os.environ | {"PATH": f"{Path.cwd()}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], env=found_first, capture_output=True, text=True)
    assert "error: " not in done.stderr
    assert done.returncode in (0, 1, 3)
    log = [json.loads(line) for line in Path("ladders/spirals/log.jsonl").read_text().splitlines()]
    assert [line["outcome"] for line in log if "of" in line]


def test_every_edit_of_the_night_fits_the_program():
    import night

    text = Path("train.py").read_text()
    for name, edit in night.EDITS.items():
        assert all(old in text for old in edit), name


def test_a_rule_that_trusts_one_run_keeps_what_does_nothing():
    import nights

    none, one = nights.State(), nights.State([0])
    scores = {none: [3 - at / 200 for at in range(200)], one: [1 + at / 900 for at in range(200)]}
    night = [None] * 40, scores, random.Random(0)  # noqa: S311 (nothing secret)
    assert nights.greedy(1, *night)[1] > nights.climb(*night)[1] == 0
    assert nights.climb([0], *night[1:])[0] == one
