"""A study on other machines: the job script that ``ddpm study slurm`` prints, and slots on GPUs that are not there."""

import json
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from ddpm.study import slurm
from ddpm.study.runner import Runner
from tests import study_project
from tests.study_project import PLAN, study


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project with a study of two looks."""
    study_project.make(tmp_path / "my study")
    study_project.enter(tmp_path / "my study", monkeypatch)
    PLAN.write_text(study_project.STUDY.replace("[2]", "[3, 4]"))
    study_project.commit("two looks")
    return tmp_path / "my study"


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([1, 2, 5, 7, 8], "1-2,5,7-8")]
)
def test_lines_are_written_as_slurm_reads_them(numbers, text):
    assert slurm.ranges(numbers) == text


def test_a_job_runs_what_is_missing_up_to_the_next_look(folder, capsys):
    assert study("slurm", "tiny") == 2
    assert "--time" in capsys.readouterr().err

    def script(*options: str) -> str:
        assert study("slurm", "tiny", *options) == 0
        text = capsys.readouterr().out
        assert f"--chdir='{folder}'" in text
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        return text.splitlines()[1]

    assert script("--time", "90").endswith("--array=1-6 --cpus-per-task=1 --time=01:30:00")
    assert Path(".ddpm/studies/tiny").is_dir()
    assert study("run", "tiny", "--line", "2") == 0
    capsys.readouterr()
    assert script().endswith("--array=1,3-6 --cpus-per-task=1 --time=00:10:00")  # the least, for runs of a second
    run = Path("metrics/studies/tiny/runs/linear-0.json")
    record = json.loads(run.read_text())
    record["costs"]["seconds"]["train"] = 1800.0
    run.write_text(json.dumps(record))
    assert script().endswith("--time=01:00:00")
    assert study("run", "tiny") == 0
    capsys.readouterr()
    assert study("slurm", "tiny") == 2
    assert "no experiment is missing" in capsys.readouterr().err


def test_more_slots_than_gpus_share_them():
    assert Runner(cast(Any, None), 5, ("0", "1"), print).worker.devices == ["0", "1", "0", "1", "0"]
