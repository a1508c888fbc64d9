"""The state of git's HEAD after a killed ``dvc exp run``, and the commands that put it back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ddpm import cli
from ddpm.cli import commands
from ddpm.params import file
from ddpm.runs import interrupted
from ddpm.tools import doctor
from tests.scored import git

COMMIT = ("commit", "--quiet", "--allow-empty", "--message")
STAGE = """
stages:
  a:
    cmd: python -c "import time; open('started', 'w').close(); time.sleep(600)"
    params: [seed]
"""


@pytest.fixture(autouse=True)
def _in_a_repository(tmp_path, monkeypatch) -> None:
    """On the branch ``work``, with two commits and a file that may be changed."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".dvc/site"))
    git("init", "--quiet", "--template=", "--initial-branch", "work")
    git("config", "user.name", "t")
    git("config", "user.email", "t@example.org")
    Path("params.yaml").write_text("seed: 0\n")
    git("add", "params.yaml")
    git(*COMMIT, "one")
    git(*COMMIT, "two")
    (tmp_path / ".dvc/tmp/exps").mkdir(parents=True)


def on() -> str:
    return git("rev-parse", "--abbrev-ref", "HEAD")


def follow(way: str | None) -> None:
    """Run the commands in it."""
    for command in re.findall("`(.+?)`", way or ""):
        subprocess.run(command, shell=True, check=True, capture_output=True)  # noqa: S602


def leave(*, stashing: bool = False) -> None:
    """Take HEAD off the branch as DVC does: right after it returned from stashing or, if killed, while it stashed."""
    here = git("rev-parse", "HEAD")
    if stashing:
        process = subprocess.Popen([sys.executable, "-c", ""])
        process.wait()
        writers = {"workspace": {"pid": process.pid, "cmd": "dvc exp run"}}
        interrupted.LOCKS.write_text(json.dumps({"write": writers}))
        git("stash")
    else:
        git("checkout", "--quiet", here)
        git("symbolic-ref", "-m", "dvc: Restore HEAD to 'work'", "HEAD", "refs/heads/work")
    git("checkout", "--quiet", here)


@pytest.mark.slow
def test_a_killed_experiment_of_dvc_s(capsys):
    shutil.rmtree(".dvc")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    Path("dvc.yaml").write_text(STAGE)
    commands.preset("digits", force=True)
    git("add", "--all")
    git(*COMMIT, "three")
    command = ["dvc", "exp", "run", "--set-param", "seed=7"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not Path("started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    assert on() == "HEAD"
    assert interrupted.way_back() is None  # it is running
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert on() == "HEAD"
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["check"])
    told = capsys.readouterr().err
    assert told.startswith("error: git's HEAD is on no branch since `dvc exp run` was killed; `git checkout work` goes")
    assert told.count("\n") == 1
    assert doctor.branch() in doctor.lacking(doctor.examine())
    way = interrupted.way_back()
    assert way == "`git checkout work` goes back to the branch; what -S had set is still there: `git diff`"
    follow(way)
    assert on() == "work"
    assert doctor.branch().state == "ok"
    assert file.read()["seed"] == 7
    with pytest.raises(SystemExit, match="0"):
        cli.main(["check"])


def test_on_a_branch_there_is_no_way_to_tell():
    assert interrupted.way_back() is None


@pytest.mark.parametrize("at", ["--detach", "HEAD~1", "v1", "{tip}", "{before}"])
@pytest.mark.parametrize("ran", [False, True])
def test_who_checks_out_a_commit_meant_it(at, ran, monkeypatch):
    git("tag", "v1")
    before, tip = git("rev-parse", "HEAD~1"), git("rev-parse", "HEAD")
    if ran:  # a whole experiment, two minutes before
        with monkeypatch.context() as patch:
            patch.setenv("GIT_COMMITTER_DATE", f"{int(time.time()) - 120} +0000")
            leave()
            git("symbolic-ref", "-m", "dvc: Restore HEAD to 'work'", "HEAD", "refs/heads/work")
    git("checkout", "--quiet", at.format(tip=tip, before=before))
    assert on() == "HEAD"
    assert interrupted.way_back() is None


def test_ci_checks_out_a_commit_of_no_branch(tmp_path, monkeypatch):
    tip = git("rev-parse", "HEAD")
    Path("ci").mkdir()
    monkeypatch.chdir("ci")
    git("init", "--quiet", "--template=")
    git("fetch", "--quiet", "--depth=1", str(tmp_path), "work")
    git("checkout", "--quiet", tip)
    assert on() == "HEAD"
    assert interrupted.way_back() is None


def test_commits_made_since_are_kept():
    leave()
    git(*COMMIT, "on no branch")
    follow(interrupted.way_back())
    assert on() == "work"
    assert git("log", "-1", "--format=%s") == "on no branch"


def test_who_went_on_from_there_by_purpose_is_not_asked_back():
    leave()
    git("checkout", "--quiet", "HEAD~1")
    assert interrupted.way_back() is None


def test_what_was_stashed_comes_back():
    Path("params.yaml").write_text("seed: 3\n")
    leave(stashing=True)
    assert Path("params.yaml").read_text() == "seed: 0\n"
    follow(interrupted.way_back())
    assert on() == "work"
    assert Path("params.yaml").read_text() == "seed: 3\n"


@pytest.mark.parametrize(("age", "lives"), [(1.0, True), (-1.0, False)])
def test_another_process_with_its_number_is_not_the_run(age, lives):
    """For example after a restart of the machine."""
    leave()
    interrupted.RUNNING.parent.mkdir(parents=True)
    interrupted.RUNNING.write_text(json.dumps({"pid": os.getpid()}))
    noted = psutil.Process().create_time() + age
    os.utime(interrupted.RUNNING, (noted, noted))
    assert (interrupted.way_back() is None) == lives


@pytest.mark.parametrize("text", ["", "[]", '{"write": []}', '{"write": {"workspace": 3}}', '{"pid": "x"}', "{"])
def test_half_a_note_of_dvc_s_is_no_process(text):
    leave()
    interrupted.RUNNING.parent.mkdir(parents=True)
    for path in (interrupted.RUNNING, interrupted.LOCKS):
        path.write_text(text)
    assert "git checkout work" in (interrupted.way_back() or "")


def test_outside_a_repository_nothing_is_said(tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert interrupted.way_back() is None
