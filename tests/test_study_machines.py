"""A study on other machines: the job script that ``ddpm study slurm`` prints, and slots on GPUs that are not there."""

import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from ddpm.base.errors import UserError
from ddpm.study import loading, slurm
from ddpm.study.planning import Cost
from ddpm.study.runner import Runner
from ddpm.study.status import State, Status
from ddpm.study.worker import Worker
from tests import study_project
from tests.study_project import PLAN

LEDGER = cast(Any, None)  # nothing runs


def status(done: int = 0, seconds: float | None = None) -> Status:
    PLAN.write_text(study_project.STUDY.replace("[2]", "[8, 12]"))
    study = loading.load(PLAN)
    states: dict[str, State] = {each.name: "missing" for each in study.lines()}
    states |= dict.fromkeys(list(states)[:done], "done")
    return Status(study, "0" * 40, states, {}, tuple(study.params), seconds)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    study_project.make(tmp_path / "my study")
    study_project.enter(tmp_path / "my study", monkeypatch)
    return tmp_path / "my study"


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([1, 2, 5, 7, 8], "1-2,5,7-8")]
)
def test_lines_are_written_as_slurm_reads_them(numbers, text):
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
def test_a_job_runs_what_is_missing_up_to_the_next_look(done, seconds, limit, options, folder):
    script = slurm.script(status(done, seconds), limit, Cost(seconds, "measured"))
    assert all(option in script for option in (*options, f"--chdir='{folder}'"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("done", "line"), [(0, "--time"), (24, "no experiment is missing")])
def test_a_job_without_a_time_or_with_nothing_left_is_refused(done, line):
    with pytest.raises(UserError, match=line):
        slurm.script(status(done), None, Cost(None, "not measured"))


@pytest.mark.usefixtures("folder")
def test_the_command_prints_the_script_and_makes_the_folder_of_its_logs(capsys):
    assert study_project.study("slurm", "tiny", "--time", "60") == 0
    assert "--array=1-4 " in capsys.readouterr().out
    assert Path(".ddpm/studies/tiny").is_dir()


def test_more_slots_than_gpus_share_them():
    assert Runner(LEDGER, 5, ("0", "1"), print).worker.devices == ["0", "1", "0", "1", "0"]


def test_mps_that_does_not_run_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with pytest.raises(UserError, match=r"^CUDA_MPS_PIPE_DIRECTORY: no MPS daemon listens in .*start it.*unset"):
        Worker(LEDGER, ("0",))
    Worker(LEDGER)  # without GPUs nobody needs it
    (tmp_path / "control").touch()
    Worker(LEDGER, ("0",))
