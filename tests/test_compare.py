"""``ddpm compare``: from recorded runs to a verdict in a terminal and in files."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml
from ddpm.report.compared import verdict
from PIL import Image

from ddpm import cli
from ddpm.report import page
from ddpm.report.blocks import chapter
from ddpm.runs import alike as runs
from ddpm.tracking.store import SETTINGS
from tests.scored import Experiment, grid, params, record

BY = ("compare", "--by", "diffusion.schedule.name")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose params are the small ones, without experiments."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "DVC_ROOT", *SETTINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params()))
    record(tmp_path, [])
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that must fail."""
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    return line.removeprefix("error: ")


def test_a_table_says_who_is_better(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, grid({"cosine": 1, "linear": 2, "sigmoid": 0.5}, range(6)))
    assert run(*BY) == 0
    shown = capsys.readouterr().out
    assert "cosine (baseline)  6      96           1,000       5" in shown
    linear, sigmoid = (block.splitlines() for block in shown.split("\n\n")[1:3])
    assert linear[0] == "linear against cosine, seeds 0 1 2 3 4 5"
    assert linear[2].split()[0] == "classifier.fd"
    assert linear[2].endswith("worse")
    assert sigmoid[2].endswith("better")


def test_the_files_say_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, grid({"cosine": 1, "linear": 2}, range(6)))
    assert run(*BY, "--out", "verdict") == 0
    assert set(Path("verdict").iterdir()) == {Path(f"verdict/verdict.{kind}") for kind in ("md", "csv", "json", "png")}
    verdicts = json.loads(Path("verdict/verdict.json").read_text())["verdicts"]
    assert [(row["metric"], row["outcome"]) for row in verdicts] == [
        ("classifier.fd", "worse"),
        ("classifier.kid_mean", "worse"),
    ]
    with Path("verdict/verdict.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["worse", "worse"]
    assert [float(row["difference"]) for row in rows] == [row["difference"] for row in verdicts]
    assert rows[0]["seeds"] == "0 1 2 3 4 5"
    assert rows[0]["variant_images_seen"] == "96"
    tables = [
        line for line in Path("verdict/verdict.md").read_text().splitlines() if line.startswith("| classifier.fd ")
    ]
    assert len(tables) == 1
    assert tables[0].split()[-2] == "worse"
    with Image.open("verdict/verdict.png") as picture:
        assert picture.size[0] > 300


def test_other_budgets_are_a_column_where_they_are_allowed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps, fd in ((5, 1.0), (9, 2.0)):
        ran = {"sample__steps": steps}
        record(
            folder,
            [Experiment(f"{steps}-{seed}", fd + seed, {**ran, "seed": seed}, evaluations=steps) for seed in range(6)],
        )
    by = ("compare", "--by", "sample.steps")
    line = refused(capsys, *by)
    assert line.startswith("evaluations differ: 5 5, 9 9: a gap may be theirs")
    assert "--may-differ evaluations" in line
    assert run(*by, "--may-differ", "parameters", "code") == 2
    assert run(*by, "--may-differ", "evaluations") == 0
    assert "9             6      96           1,000       9" in capsys.readouterr().out


def test_other_code_is_a_note_where_it_is_allowed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict on it would be about the edit as much as about the schedule, also in the report."""
    cosine, linear = grid({"cosine": 1}, range(6)), grid({"linear": 2}, range(6))
    record(folder, [*cosine, *(replace(each, code={"ddpm/training": "ed17ed000000"}) for each in linear)])
    line = refused(capsys, *BY)
    says = "code differs in ddpm/training: cosine-0, cosine-1, cosine-2 and 3 more; linear-0, linear-1, linear-2"
    assert line.startswith(says)
    assert run(*BY, "--may-differ", "code") == 0
    assert says in capsys.readouterr().out
    monkeypatch.setattr(page, "chapters", lambda settings, found: [chapter("", partial(verdict, found))])
    for flags in ([], ["--may-differ", "code"]):
        assert run("report", "--by", "diffusion.schedule.name", "--out", "report.html", *flags) == 0
        shown = Path("report.html").read_text()
        assert says in shown
        assert ("--may-differ code" in shown) == (not flags)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--by", "diffusion.schedul.name"), "no run has the key 'diffusion.schedul.name' (did you mean"),
        (("--by", "diffusion.schedule.name", "--metrics", "classifier.fdd"), "(did you mean 'classifier.fd'?)"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    record(folder, grid({"cosine": 1, "linear": 2}, range(6)))
    assert says in refused(capsys, "compare", *arguments)


def test_a_score_that_is_no_number_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, [*grid({"cosine": 1}, range(3)), *grid({"linear": float("nan")}, range(3))])
    said = refused(capsys, *BY, "--out", "out")
    assert "left out linear-0" in said
    assert "classifier.fd: nan" in said
    assert not Path("out").exists()


FDS = {"cosine": 1.0, "linear": 2.0}


@pytest.mark.slow
def test_what_dvc_itself_ran_is_compared(folder: Path) -> None:
    """The layout of refs and of dvc.lock is DVC's own, not this test's idea of it."""
    contents = {name: Experiment("x", params={"diffusion__schedule": {"name": name}}).contents() for name in FDS}
    written = {
        name: {path: text for path, text in files.items() if path.startswith("metrics/")}
        for name, files in contents.items()
    }
    (folder / "score.py").write_text(
        "import json, pathlib, yaml\n"
        "params = yaml.safe_load(open('params.yaml'))\n"
        "schedule = params['diffusion']['schedule']['name']\n"
        f"fd, files = {FDS!r}[schedule], {written!r}[schedule]\n"
        "files['metrics/evaluate.json'] = json.dumps({'classifier': {'fd': fd, 'kid_mean': fd}})\n"
        "for path, text in files.items():\n"
        "    pathlib.Path(path).parent.mkdir(exist_ok=True)\n"
        "    pathlib.Path(path).write_text(text)\n"
    )
    stage = {
        "cmd": f"{sys.executable} score.py",
        "params": [key for key in params() if key != "device"],
        "metrics": [{path: {"cache": False}} for path in written["cosine"]],
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": stage}}))
    dvc = [sys.executable, "-m", "dvc"]
    for command in (
        [*dvc, "init", "--quiet"],
        ["git", "config", "user.name", "t"],
        ["git", "config", "user.email", "t@example.org"],
        ["git", "add", "."],
        ["git", "commit", "--quiet", "-m", "begin"],
        [*dvc, "exp", "run", "--quiet", "-n", "a"],
        [*dvc, "exp", "run", "--quiet", "-n", "b", "-S", "diffusion.schedule.name=linear"],
        ["git", "checkout", "--quiet", "params.yaml"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    found = runs.gather()
    assert [(each.name, each.source) for each in found.runs] == [("a", "dvc"), ("b", "dvc")]
    assert found.notes[0].startswith("left out workspace: stage evaluate ran with another diffusion than")
    assert [each.scores["classifier.fd"] for each in found.runs] == [*FDS.values()]
