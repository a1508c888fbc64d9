"""``ddpm compare``: from records to a verdict in a terminal and in files."""

import json
from pathlib import Path

import pytest
import yaml

from tests.command import refused, run
from tests.scored import grid, params, record

BY = ("compare", "--by", "diffusion.schedule.name")


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    """A project whose params are the small ones, without experiments."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params()))
    record(folder)


def test_a_verdict_is_a_table_and_files_that_say_the_same(folder, capsys):
    record(folder, grid({"cosine": 1, "linear": 2, "sigmoid": 0.5}, range(6)))
    assert run(*BY, "--out", "verdict") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("linear is worse: FD ")
    assert {path.name for path in Path("verdict").iterdir()} == {"verdict.md", "verdict.json", "verdict.png"}
    written = json.loads(Path("verdict/verdict.json").read_text())
    assert run(*BY, "--json") == 0
    assert json.loads(capsys.readouterr().out) == written
    assert [(row["arm"], row["metric"], row["outcome"]) for row in written["verdicts"]] == [
        (arm, f"classifier.{metric}", outcome)
        for arm, outcome in (("linear", "worse"), ("sigmoid", "better")) for metric in ("fd", "kid_mean")
    ]  # fmt: skip


def test_a_mistake_is_one_line_and_writes_nothing(folder, capsys):
    record(folder, grid({"cosine": 1}, range(6)))
    assert "only cosine was run" in refused(capsys, *BY, "--out", "out")
    record(folder, grid({"cosine": 1, "linear": 2}, range(6)))
    assert "--out: out.md" in refused(capsys, *BY, "--out", "out.md")
    assert not list(Path().glob("out*"))
