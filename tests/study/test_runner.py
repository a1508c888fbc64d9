"""``ddpm study run``: from a plan to a verdict."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ddpm.arms import pool
from ddpm.arms.question import strip
from ddpm.pictures import grids
from ddpm.study import loading, publication
from ddpm.study.ledger import open_ledger
from ddpm.verdicts import statistics
from tests.study_project import NAMES, PLAN, RESULTS, STUDY, commit, git, ran, records, start, study, until, verdict

TINY, STAGE = str(PLAN), "stages/__main__.py"


pytestmark = pytest.mark.usefixtures("project")


def contents() -> dict[str, bytes | list[bytes]]:
    """Of the study's files but the page; rows in order, since they are in that in which they were made."""
    paths = (path for path in RESULTS.rglob("*") if path.is_file() and path.suffix not in {".lock", ".html"})
    files = {str(path): path.read_bytes() for path in paths}
    return {path: sorted(text.splitlines()) if path.endswith(".jsonl") else text for path, text in files.items()}


def failures() -> set[str]:
    ledger = open_ledger(loading.load(PLAN))
    return {name for name in NAMES if ledger.failure(name)}


def edit(path: str | Path, old: str, new: str) -> None:
    """Replace text in a file, and commit."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    commit("other code")


@pytest.fixture
def refused(lab, capsys):
    """The one line of a refused command, which runs nothing."""

    def line(*arguments: str) -> str:
        before = contents(), [*lab.ran]
        assert study(*arguments) == 2
        assert (contents(), lab.ran) == before
        return capsys.readouterr().err.splitlines()[-1]

    return line


def status(capsys: pytest.CaptureFixture[str]) -> dict:
    capsys.readouterr()
    assert study("status", TINY, "--json", "--slots", "2") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_study_runs_to_its_verdict_and_then_has_nothing_to_do(capsys):
    assert study("run", TINY, "--slots", "2") == 0
    said, plan = capsys.readouterr().out, loading.load(PLAN)
    assert "linear is inconclusive" in said
    assert {run["revision"] for run in records().values()} == {git("rev-parse", "HEAD")}
    assert {run["plan"] for run in records().values()} == {plan.hash}
    assert {name: run["scores"]["classifier.fd"] for name, run in records().items()} == {
        "cosine-0": 2.0, "linear-0": 3.0, "cosine-1": 2.1, "linear-1": pytest.approx(1.1),
    }  # fmt: skip
    # what experiments share is made once, by whichever comes first
    stages = {f"{stage} {arm} {seed}" for stage in ("train", "evaluate") for arm in plan.arms for seed in range(2)}
    assert sorted(set(ran()) - stages) in (["reference cosine 0"], ["reference linear 0"])
    assert len(ran()) == len(stages) + 1
    assert git("ls-files", "--others", "--exclude-standard").splitlines() == sorted(contents())
    before = contents()
    assert {Path(path).name for path in before} == {
        "rows.jsonl",
        "samples.png",
        *(f"verdict.{x}" for x in ("json", "md", "png")),
    }
    assert study("run", TINY) == 0
    assert (contents(), len(ran())) == (before, 9)
    assert not [*RESULTS.rglob("*.lock"), *pool.FOLDER.glob("????????????????.lock"), *pool.FOLDER.glob("train-*")]


def test_strips_of_arms_become_one_picture_once_all_are_here():
    def shown() -> list[str]:
        return [block.name for block in publication.pictures(loading.load(PLAN))]

    for arm, before in {"linear": [], "cosine": ["strip.linear"]}.items():
        assert shown() == before
        grids.save_strip(np.zeros((12, 1, 8, 8), np.uint8), strip(RESULTS, arm))
    assert (shown(), [path.name for path in RESULTS.iterdir()]) == (["samples"], ["samples.png"])
    assert shown() == ["samples"]


def test_what_fails_is_tried_once_more_and_a_later_run_gives_the_whole_verdict(lab, refused, capsys):
    assert "tiny" in refused("verdict", TINY)
    lab.failing["linear-1"] = 2
    assert study("run", TINY) == 1
    assert lab.ran == [*NAMES, "linear-1"]
    assert "failed: linear-1: out of luck" in capsys.readouterr().err
    assert failures() == {"linear-1"}
    assert study("run", TINY, "--line", "1") == 0  # it is done
    assert [len(arm["seeds"]) for arm in verdict()["arms"]] == [2, 1]
    assert "allowed: 1 to 4" in refused("run", TINY, "--line", "5")
    assert study("run", TINY) == 0
    assert not failures()
    assert (verdict()["open"], verdict()["next_look"]) == ([], None)
    assert loading.load(PLAN).plan.question in (RESULTS / "verdict.md").read_text()
    whole, count = contents(), len(lab.ran)
    (RESULTS / "verdict.json").unlink()
    assert study("verdict", TINY) == 0
    assert (contents(), len(lab.ran)) == (whole, count)


@pytest.mark.parametrize(("slots", "rest"), [(1, "2 min 0 s"), (2, "60 s")])
def test_the_time_left_is_told_from_all_runs_so_far(slots, rest, lab, capsys):
    assert study("run", TINY, "--line", "1") == 0
    assert study("run", TINY, "--slots", str(slots)) == 0
    assert f"; 2 left, about {rest}\n" in capsys.readouterr().out


def test_a_decided_arm_gets_no_more_seeds(lab, monkeypatch):
    PLAN.write_text(STUDY.replace("looks: [2]", "  sigmoid: {diffusion.schedule.name: sigmoid}\nlooks: [2, 6]"))
    commit("three arms, two looks")
    monkeypatch.setattr(statistics, "fewest_seeds", lambda _: 2)  # the tests of the statistics cover it
    assert study("run", TINY) == 0
    assert {pair["arm"]: (pair["outcome"], pair["look"]) for pair in verdict()["verdicts"]} == {
        "linear": ("inconclusive", 6), "sigmoid": ("better", 2),
    }  # fmt: skip
    more = {f"{arm}-{seed}" for arm in ("cosine", "linear") for seed in range(6)}
    assert records().keys() == more | {"sigmoid-0", "sigmoid-1"}


def test_a_fault_of_one_experiment_costs_nothing_else(capsys):
    """A full disk, a killed process, and kept data that somebody has changed."""
    Path("control/full-strip.cosine.png").touch()
    assert study("run", TINY, "--line", "1") == 1
    assert "No space left" in capsys.readouterr().err
    assert not records()
    Path("control/full-strip.cosine.png").unlink()
    assert study("run", TINY, "--line", "1") == 0
    assert ran().count("train cosine 0") == 1
    before = {*pool.FOLDER.iterdir()}
    Path("control/fail-linear-0").write_text("1")
    assert study("run", TINY, "--line", "2") == 1
    [folder] = (path for path in pool.FOLDER.iterdir() if path.is_dir() and path not in before)
    for path in ("params.yaml", "data/model", "metrics/run.json", "junk"):
        (folder / path).write_text("half")
    assert study("run", TINY, "--line", "2") == 0
    assert records()["linear-0"]["scores"] == {"classifier.fd": 3.0}
    # data stay for the next experiment, a model that another job may need stays, and nothing else
    assert {path.name.partition("-")[0] for path in pool.FOLDER.iterdir() if path.is_dir()} == {
        "download", "preprocess", "reference", "train",
    }  # fmt: skip
    [kept] = pool.FOLDER.glob("preprocess-*/data/preprocess")
    kept.write_text("other images")
    capsys.readouterr()
    assert study("run", TINY, "--line", "3") == 1
    assert kept.parents[1].name in capsys.readouterr().err
    assert records().keys() == {"cosine-0", "linear-0"}


def test_a_row_that_another_machine_has_added_meanwhile_is_no_failure(lab, monkeypatch):
    make = lab.make
    monkeypatch.setattr(lab, "make", lambda task: make(task)._replace(reason="no space left here"))
    assert study("run", TINY, "--line", "1") == 0
    assert not failures()


@pytest.mark.slow
def test_arms_that_share_a_model_train_it_once_whichever_process_runs_them():
    PLAN.write_text(STUDY.replace("{diffusion.schedule.name: linear}", "{sample.steps: 7}"))
    commit("two numbers of steps, of one model")
    Path("control/sleep").write_text("1")
    other = start(TINY, "--line", "1")
    until("train cosine 0")
    assert study("run", TINY, "--line", "2") == 0
    assert study("run", TINY, "--slots", "2") == 0
    assert other.wait() == 0
    assert records().keys() == {*NAMES}
    assert [line for line in ran() if line.startswith("train")] == ["train cosine 0", "train cosine 1"]


@pytest.mark.slow
def test_a_second_process_runs_what_the_first_does_not(capsys):
    Path("control/sleep").write_text("60")
    other = start(TINY, "--line", "1")
    until("train cosine 0")
    same = start(TINY, "--line", "1")
    states = {each["name"]: each["state"] for each in status(capsys)["experiments"]}
    assert states == dict.fromkeys(NAMES, "missing") | {"cosine-0": "running"}
    whole = start(TINY)
    until("train linear 0")
    Path("control/sleep").unlink()
    assert (other.wait(), same.wait(), whole.wait()) == (0, 0, 0)
    assert all(ran().count(f"train {name.replace('-', ' ')}") == 1 for name in NAMES)


def test_other_code_than_that_of_the_first_result_runs_only_if_its_commit_is_named(lab, refused):
    lab.failing["cosine-0"] = 1
    assert study("run", TINY, "--line", "1") == 1
    edit(STAGE, "2 + 0.1", "3 + 0.1")  # without a result, the study has not begun
    first = git("rev-parse", "HEAD")
    assert study("run", TINY, "--line", "1") == 0
    Path("README.md").write_text("not code")
    commit("another commit, of the same code")
    assert study("run", TINY, "--line", "2") == 0
    edit(STAGE, "3 + 0.1", "7 + 0.1")
    for line in ((), ("--line", "3")):
        message = refused("run", TINY, *line)
        assert f"{STAGE} differs" in message
        assert f"`--commit {first[:10]}`" in message
    shutil.rmtree(".ddpm")  # as on another machine, which takes the results from git
    assert study("run", TINY, "--line", "3", "--commit", first[:10]) == 0
    assert records()["cosine-1"]["revision"] == first
    assert records()["cosine-1"]["code"] == records()["cosine-0"]["code"]
    assert "no such commit" in refused("run", TINY, "--commit", "nothing")
    PLAN.write_text(f"{STUDY}may_differ: [code]\n")
    commit("code may differ")
    assert study("run", TINY, "--line", "4") == 0
    assert records()["linear-1"]["revision"] == git("rev-parse", "HEAD")


def test_what_is_not_committed_is_refused(refused):
    for path, text in ((Path("studies/new.yaml"), STUDY), (Path(STAGE), "changed"), (Path("stages/more.py"), "new")):
        path.write_text(text)
        plan = str(path) if path.suffix == ".yaml" else TINY
        assert f"{path}: has uncommitted changes" in refused("run", plan)
        git("checkout", "--", "stages")
    for path, reason in ((Path("studies/new.yaml").absolute(), "uncommitted"), (Path("../new.yaml"), "is not in")):
        path.write_text(STUDY)
        assert reason in refused("run", str(path))


def test_a_plan_that_changed_after_results_is_refused(refused, capsys):
    assert study("run", TINY, "--line", "1") == 0
    params = Path("params.yaml")
    for path, old, new in ((PLAN, "[2]", "[3]"), (params, "learning_rate: 0.002", "learning_rate: 0.003")):
        before = path.read_text()
        path.write_text(before.replace(old, new))
        for command in ("run", "verdict"):
            assert f"made under another plan than {PLAN}" in refused(command, TINY)
        assert "made under another plan" in status(capsys)["experiments"][0]["reason"]
        path.write_text(before)
    edit(PLAN, "Which schedule?", "Which one?")
    assert study("run", TINY, "--line", "1") == 0


def test_status_shows_what_is_done_failed_and_missing_and_how_long_the_rest_takes(lab, capsys):
    lab.failing["linear-0"] = 1
    assert study("run", TINY, "--line", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"failed": {}}
    assert study("run", TINY, "--line", "2") == 1
    now = status(capsys)
    assert [row["state"] for row in now["experiments"]] == ["done", "failed", "missing", "missing"]
    assert now["left"] == ["linear-0", "cosine-1", "linear-1"]
    assert (now["seconds_each"], now["slots"]) == (60, 2)
    assert "out of luck" in now["experiments"][1]["reason"]


@pytest.mark.parametrize(("gaussian", "worse"), [(0.5, True), (2.5, False)])
def test_a_study_whose_arms_are_worse_than_a_gaussian_is_told_early(lab, gaussian, worse, capsys):
    lab.gaussian = gaussian
    assert study("status", TINY, "--pilot") == 0
    assert ("worse than a Gaussian" in capsys.readouterr().out) is worse
    assert lab.ran == ["pilot"]
    assert not RESULTS.exists()  # or the plan would be fixed
    assert study("run", TINY, "--line", "1") == 0
    assert "worse than a Gaussian" not in capsys.readouterr().out  # a run is not a pair
    assert study("run", TINY, "--line", "2") == 0
    assert study("status", TINY) == 0
    assert ("worse than a Gaussian" in capsys.readouterr().out) is worse
    assert study("run", TINY) == (3 if worse else 0)
    assert ("warning: " in capsys.readouterr().out) is worse
