"""A study's results between two clones, through a git remote and a DVC remote that is a folder.

A stand-in takes DVC's place in the workers, except in the tests with the fixture ``dvc``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm.study import plan, results, sharing, slots, worker
from tests import study_project
from tests.study_project import NAMES, PLAN, git, ran, refs, study

DVC = worker.DVC


class Clones:
    """Two clones, a and b, of a bare repository."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.monkeypatch = monkeypatch
        first = folder / "first"
        first.mkdir()
        study_project.make(first)
        git("clone", "--quiet", "--bare", str(first), str(folder / "origin.git"))
        for name in "ab":
            git("clone", "--quiet", str(folder / "origin.git"), str(folder / name))
            (folder / name / "control").mkdir()

    def enter(self, name: str) -> None:
        self.monkeypatch.chdir(self.folder / name)

    def with_remote(self) -> None:
        """Set up DVC's remote in each clone; nobody commits it."""
        slots.dvc("remote", "add", "--local", "--default", "storage", str(self.folder / "storage"))


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clones:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DDPM_TRACKING", "off")
    for name in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    study_project.install(monkeypatch)
    study_project.quick(monkeypatch)
    return Clones(tmp_path, monkeypatch)


@pytest.fixture
def dvc(clones: Clones, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC itself."""
    monkeypatch.setattr(worker, "DVC", DVC)


@pytest.mark.slow
def test_another_clone_takes_all_results_and_trains_none(clones: Clones) -> None:
    clones.enter("a")
    assert study("run", str(PLAN)) == 0
    made = refs()
    assert study("push", str(PLAN)) == 0
    clones.enter("b")
    assert study("pull", str(PLAN)) == 0
    assert refs() == made
    assert study("run", str(PLAN)) == 0
    assert not ran()


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_the_run_cache_is_shared_with_its_contents_by_a_remote_that_was_added_after_the_runs(clones: Clones) -> None:
    clones.enter("a")
    assert study("run", str(PLAN)) == 0
    clones.with_remote()
    sharing.transfer(send=True)
    clones.enter("b")
    clones.with_remote()
    sharing.transfer(send=False)
    assert study("run", str(PLAN)) == 0
    assert set(refs()) == set(NAMES)
    assert not ran()  # every stage was taken from the cache, metrics included


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_a_worker_pushes_each_result_with_its_data(clones: Clones) -> None:
    clones.enter("a")
    clones.with_remote()
    assert study("run", str(PLAN), "--line", "1", "--push") == 0
    made = refs()
    clones.enter("b")
    clones.with_remote()
    assert study("pull", str(PLAN)) == 0
    assert refs() == made
    slots.dvc("exp", "apply", "tiny-cosine-0")
    assert Path("data/model").read_text() == "cosine 0"


@pytest.mark.slow
def test_a_remote_that_is_gone_does_not_stop_a_study(clones: Clones, capsys: pytest.CaptureFixture[str]) -> None:
    clones.enter("a")
    (clones.folder / "origin.git").rename(clones.folder / "gone.git")
    assert study("run", str(PLAN), "--push") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: git ls-remote: fatal: ")
    assert set(refs()) == set(NAMES)
    assert Path("metrics/studies/tiny/verdict.json").exists()
    (clones.folder / "gone.git").rename(clones.folder / "origin.git")
    assert study("run", str(PLAN), "--push") == 0
    assert len(sharing._listed("origin")) == len(NAMES)


def test_other_content_is_refused_and_nothing_is_overwritten(
    clones: Clones, capsys: pytest.CaptureFixture[str]
) -> None:
    clones.enter("a")
    assert study("run", str(PLAN), "--line", "1", "--push") == 0
    first = refs()
    clones.enter("b")
    assert study("run", str(PLAN), "--line", "1") == 0
    assert study("run", str(PLAN), "--line", "2") == 0
    other = refs()
    found = plan.load(PLAN)
    here = results.reference(results.Ledger(found).commit, "tiny-cosine-0")
    other["tiny-cosine-0"] = git(
        "commit-tree", f"{here}^{{tree}}", "-p", "HEAD", "-m", git("log", "-1", "--format=%B", here) + "\nOther: 1"
    )
    git("update-ref", here, other["tiny-cosine-0"])
    for command in ("push", "pull"):
        capsys.readouterr()
        assert study(command, str(PLAN)) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: origin: 1 experiments have other content there than here, such as tiny-cosine-0")
    assert refs() == other
    assert dict.fromkeys(first, 1).keys() == {"tiny-cosine-0"}
    clones.enter("a")
    assert refs() == first
    assert sharing._listed("origin") == {here: first["tiny-cosine-0"]}


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_a_remote_that_is_gone(clones: Clones, capsys: pytest.CaptureFixture[str]) -> None:
    clones.enter("a")
    assert study("run", str(PLAN), "--line", "1") == 0
    (clones.folder / "origin.git").rename(clones.folder / "gone.git")
    for command in ("push", "pull"):
        capsys.readouterr()
        assert study(command, str(PLAN)) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: git ls-remote: fatal: ")
    (clones.folder / "gone.git").rename(clones.folder / "origin.git")
    (clones.folder / "storage").write_text("no folder")
    clones.with_remote()
    assert study("push", str(PLAN)) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: DVC's remote storage: ")
    assert not sharing._listed("origin")  # data first: no experiment there points to missing data
