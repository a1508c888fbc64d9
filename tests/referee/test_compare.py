"""``ddpm compare``: from records to a verdict in a terminal and in files."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.command import refused, run
from tests.scored import grid, params, record, result

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
    (arm,) = [line for line in lines if line.startswith("cosine (baseline)")]
    assert arm.split()[2:] == ["6", "96", "1,000", "5"]
    assert {path.name for path in Path("verdict").iterdir()} == {"verdict.md", "verdict.json", "verdict.png"}
    written = json.loads(Path("verdict/verdict.json").read_text())
    assert run(*BY, "--json") == 0
    assert json.loads(capsys.readouterr().out) == written
    assert [(row["arm"], row["metric"], row["outcome"]) for row in written["verdicts"]] == [
        (arm, f"classifier.{metric}", outcome)
        for arm, outcome in (("linear", "worse"), ("sigmoid", "better")) for metric in ("fd", "kid_mean")
    ]  # fmt: skip
    # the seed that speaks most against it, and how many may be worse
    for row in written["verdicts"]:
        gaps = np.subtract(row["arm_scores"], row["baseline_scores"])
        assert row["worst"] == (gaps.max() if row["outcome"] == "better" else gaps.min())
        assert row["collapse_rate"] == pytest.approx(0.393, abs=5e-4)
    page = Path("verdict/verdict.md").read_text()
    assert "linear is worse" in page
    assert page.count("39% of seeds") == 2
    with Image.open("verdict/verdict.png") as picture:
        assert picture.size[0] > 300


def test_records_of_other_folders_take_part_and_what_cannot_be_read_is_said(folder, capsys):
    Path("theirs").mkdir()
    for each in grid({"cosine": 1, "linear": 2}, range(6)):
        Path("theirs", f"{each.name}.json").write_text(each.text())
    Path("theirs/broken.json").write_text("{")
    assert run(*BY, "--from", "theirs") == 0
    said = capsys.readouterr().out
    assert "linear is worse" in said
    assert "theirs/broken.json: " in said


def test_what_may_differ_is_named(folder, capsys):
    record(folder, [result(seed=seed, fd=steps + seed / 9, params={"sample__steps": steps}, evaluations=steps,
                           name=f"{steps}-{seed}") for steps in (5, 9) for seed in range(6)])  # fmt: skip
    by = ("compare", "--by", "sample.steps")
    assert "--may-differ evaluations" in refused(capsys, *by, "--may-differ", "parameters", "code")
    assert run(*by, "--may-differ", "evaluations") == 0


def test_a_mistake_is_one_line_and_writes_nothing(folder, capsys):
    record(folder, grid({"cosine": 1}, range(6)))
    assert "only cosine was run" in refused(capsys, *BY, "--out", "out")
    record(folder, grid({"cosine": 1, "linear": 2}, range(6)))
    assert "--out: out.md" in refused(capsys, *BY, "--out", "out.md")
    assert not list(Path().glob("out*"))
