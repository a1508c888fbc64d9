"""A study on other machines: a job of examples/slurm.sh, slots on GPUs that are not there, and two clones, of
which one takes what the other has finished from git, or from a folder that both share."""

import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ddpm.arms import revision
from tests import study_project
from tests.pages import blocks
from tests.study_project import NAMES, PLAN, RESULTS, ROOT, ROWS, STUDY, git, records, start, study, until

TINY = str(PLAN)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A project with a study of two looks."""
    study_project.make(tmp_path / "my study")
    study_project.enter(tmp_path / "my study", monkeypatch)
    PLAN.write_text(STUDY.replace("[2]", "[3, 4]"))
    study_project.commit("two looks")
    return tmp_path / "my study"


def test_a_job_of_an_array_runs_its_line_and_is_requeued_before_its_time_ends(folder):
    Path("bin").mkdir()
    Path("bin/scontrol").write_text('#!/bin/sh\necho "$@" > requeued\n')
    Path("bin/scontrol").chmod(0o755)
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    Path("control/sleep").write_text("60")
    job = subprocess.Popen(["bash", str(ROOT / "examples/slurm.sh"), TINY], env=environment)
    until("train linear 0")
    job.send_signal(signal.SIGUSR1)
    job.wait(timeout=60)
    assert Path("requeued").read_text() == "requeue 7_2\n"
    assert not RESULTS.exists() or not records()


@pytest.mark.parametrize(
    ("ending", "restarts", "code", "again"),
    [("kill -KILL $$", "2", 0, True), ("kill -KILL $$", "3", 137, False), ("exit 2", "0", 2, False)],
)
def test_a_job_whose_program_is_killed_is_requeued_three_times(ending, restarts, code, again, tmp_path):
    for name, line in {"scontrol": f'echo "$@" > {tmp_path}/requeued', "ddpm": ending}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_RESTART_COUNT": restarts}
    environment |= {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    job = subprocess.run(["bash", str(ROOT / "examples/slurm.sh"), TINY], env=environment)
    assert (job.returncode, (tmp_path / "requeued").exists()) == (code, again)


def test_jobs_that_start_together_share_one_copy_of_the_code(folder):
    start = Barrier(4)
    with ThreadPoolExecutor(4) as jobs:
        folders = jobs.map(lambda _: start.wait() * 0 or revision.export(revision.head()).stat().st_ino, range(4))
    assert len({*folders}) == 1


@pytest.fixture
def clones(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """Two clones of a bare repository."""
    study_project.make(tmp_path / "first")
    git("clone", "--quiet", "--bare", str(tmp_path / "first"), str(tmp_path / "origin.git"))
    for name in "ab":
        git("clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / name))
        (tmp_path / name / "control").mkdir()
    study_project.enter(tmp_path / "a", monkeypatch)
    return tmp_path / "a", tmp_path / "b"


def test_two_clones_that_share_git_finish_a_study_together(lab, clones, monkeypatch):
    first, second = clones
    for line in ("1", "2"):
        assert study("run", TINY, "--line", line) == 0
    commands = [line for block in blocks() if block.page == "machines.md" for line in block.text.splitlines()]
    (publish,) = (line.replace("schedule", "tiny") for line in commands if line.startswith("git add"))
    subprocess.run(publish, shell=True, check=True)  # noqa: S602 - the page's command
    published = records()
    study_project.enter(second, monkeypatch)
    assert study("run", TINY, "--line", "1") == 0
    row = ROWS.read_text()
    ROWS.write_text(row.replace('"train":60.0', '"train":61.0'))  # it took longer here
    assert ROWS.read_text() != row
    subprocess.run(publish, shell=True, check=True)  # noqa: S602
    assert records() == published
    assert study("run", TINY) == 0
    study_project.commit("the others, and the verdict")
    git("push", "--quiet")
    results = {path.name: path.read_bytes() for path in RESULTS.rglob("*.[!hl]*")}
    study_project.enter(first, monkeypatch)
    git("pull", "--quiet")
    assert study("run", TINY) == 0
    assert lab.ran == ["cosine-0", "linear-0", "cosine-0", "cosine-1", "linear-1"]
    assert {path.name: path.read_bytes() for path in RESULTS.rglob("*.[!hl]*")} == results
    assert records().keys() == {*NAMES}


@pytest.mark.slow
def test_two_clones_that_share_the_folder_run_each_experiment_once(clones, monkeypatch):
    for clone in clones:
        study_project.enter(clone, monkeypatch)
        PLAN.write_text(STUDY.replace("[2]", "[6]"))
    git("commit", "--quiet", "-am", "six seeds", at=clones[0])
    git("push", "--quiet", at=clones[0])
    git("checkout", "--", ".", at=clones[1])
    git("pull", "--quiet", at=clones[1])
    (clones[0] / "metrics/studies").mkdir()
    (clones[1] / "metrics/studies").symlink_to(clones[0] / "metrics/studies")
    processes = []
    for clone in clones:
        study_project.enter(clone, monkeypatch)
        Path("control/sleep").write_text("1.5")
        processes.append(start(TINY, "--slots", "1"))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    trained = Counter()
    for clone in clones:
        by_clone = [line for line in (clone / "control/ran").read_text().splitlines() if line.startswith("train")]
        assert by_clone  # both had a share in it
        trained.update(by_clone)
    assert trained == {f"train {arm} {seed}": 1 for seed in range(6) for arm in ("cosine", "linear")}
    assert len(records()) == 12
