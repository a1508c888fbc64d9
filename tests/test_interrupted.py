"""The state of git's HEAD after a killed ``dvc exp run``."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ddpm import cli
from ddpm.cli import commands
from ddpm.params import file
from ddpm.tools import clone
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
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert on() == "HEAD"
    assert clone.branch()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["check", "--no-pilot"])
    assert capsys.readouterr().err.startswith("note: git's HEAD is on no branch")
    git("checkout", "-")
    assert on() == "work"
    assert not clone.branch()
    assert file.read()["seed"] == 7


def test_who_checks_out_a_commit_is_told_and_not_refused():
    assert not clone.branch()
    git("checkout", "--quiet", "--detach")
    assert clone.branch()
    assert "git checkout -" in clone.branch()
    git("checkout", "-")
    assert (on(), clone.branch()) == ("work", "")
