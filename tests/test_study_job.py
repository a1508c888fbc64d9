"""The job script that ``ddpm study slurm`` prints."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.study import loading, slurm
from ddpm.study.status import State, Status
from tests import study_project

ARMS = {name: {"diffusion.schedule.name": name} for name in ("cosine", "linear")}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_project.make(tmp_path)
    monkeypatch.chdir(tmp_path)


def status(done: int = 0, seconds: float | None = None) -> Status:
    study = loading.parse({"question": "Which?", "arms": ARMS, "looks": [8, 12]}, Path("studies/tiny.yaml"))
    states: dict[str, State] = {each.name: "missing" for each in study.lines()}
    states |= dict.fromkeys(list(states)[:done], "done")
    return Status(study, "0" * 40, states, {}, tuple(ARMS), seconds)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([1, 2, 5, 7, 8], "1-2,5,7-8")]
)
def test_lines_are_written_as_slurm_reads_them(numbers: list[int], text: str) -> None:
    assert slurm.ranges(numbers) == text


@pytest.mark.parametrize(
    ("done", "seconds", "limit", "options"),
    [
        (0, None, 90, ("--array=1-16 ", "--time=01:30:00")),
        (3, 1800, None, ("--array=4-16 ", "--time=01:00:00")),
        (16, 1, None, ("--array=17-24 ", "--time=00:10:00")),
        (16, 1, 0.5, ("--array=17-24 ", "--time=00:01:00")),
    ],
)
def test_it_runs_what_is_missing_up_to_the_next_look(
    done: int, seconds: float | None, limit: float | None, options: tuple[str, ...]
) -> None:
    script = slurm.script(status(done, seconds), limit, pilot=False)
    assert all(option in script for option in options)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_folder_with_a_space_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = status()
    (tmp_path / "my study").mkdir()
    monkeypatch.chdir(tmp_path / "my study")
    assert f"--chdir='{tmp_path}/my study'" in slurm.script(found, 5, pilot=False)


@pytest.mark.parametrize(("done", "says"), [(0, "--time"), (24, "no experiment is missing")])
def test_without_a_time_or_with_nothing_left_it_says_so(done: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        slurm.script(status(done), None, pilot=False)
