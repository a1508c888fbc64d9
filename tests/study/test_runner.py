"""``ddpm study run``: from a plan to a verdict, on a project with stages that take no time."""

import json
import shutil
from pathlib import Path

import pytest

from ddpm.arms import pool
from ddpm.study import loading
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
    names = [path.stem for path in ledger.log("").parent.glob("?*.log")]
    return {name for name in names if ledger.failure(name)} - {*records()}


def edit(path: str | Path, old: str, new: str) -> None:
    """Replace text in a file, and commit."""
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    commit("other code")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refused command, which runs nothing."""
    before, stages = contents(), ran()
    assert study(*arguments) == 2
    assert (contents(), ran()) == (before, stages)
    return capsys.readouterr().err.splitlines()[-1]


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
    assert plan.plan.question in (RESULTS / "verdict.md").read_text()
    assert (verdict()["open"], verdict()["next_look"]) == ([], None)
    # what experiments share is made once, by whichever comes first
    stages = {f"{stage} {arm} {seed}" for stage in ("train", "evaluate") for arm in plan.arms for seed in range(2)}
    assert sorted(set(ran()) - stages) in (["reference cosine 0"], ["reference linear 0"])
    assert len(ran()) == len(stages) + 1
    assert git("ls-files", "--others", "--exclude-standard").splitlines() == sorted(contents())
    before = contents()
    assert study("run", TINY) == 0
    assert (contents(), len(ran())) == (before, 9)
    assert not [*RESULTS.rglob("*.lock"), *pool.FOLDER.glob("????????????????.lock")]


def test_the_verdict_so_far_runs_nothing_and_is_the_one_that_a_whole_run_writes(capsys):
    assert "tiny" in refused(capsys, "verdict", TINY)
    Path("control/fail-linear-1").write_text("2")
    assert study("run", TINY) == 1
    before = ran()
    assert study("verdict", TINY) == study("run", TINY, "--line", "1") == 0  # nothing the second time
    assert [len(arm["seeds"]) for arm in verdict()["arms"]] == [2, 1]
    assert ran() == before
    assert "allowed: 1 to 4" in refused(capsys, "run", TINY, "--line", "5")
    assert study("run", TINY) == 0
    whole, before = contents(), ran()
    (RESULTS / "verdict.json").unlink()
    assert study("verdict", TINY) == 0
    assert (contents(), ran()) == (whole, before)


def test_a_decided_arm_gets_no_more_seeds(monkeypatch):
    PLAN.write_text(STUDY.replace("looks: [2]", "  sigmoid: {diffusion.schedule.name: sigmoid}\nlooks: [2, 6]"))
    commit("three arms, two looks")
    monkeypatch.setattr(statistics, "fewest_seeds", lambda _: 2)  # the tests of the statistics cover it
    assert study("run", TINY) == 0
    assert {pair["arm"]: (pair["outcome"], pair["look"]) for pair in verdict()["verdicts"]} == {
        "linear": ("inconclusive", 6), "sigmoid": ("better", 2),
    }  # fmt: skip
    more = {f"{arm}-{seed}" for arm in ("cosine", "linear") for seed in range(6)}
    assert records().keys() == more | {"sigmoid-0", "sigmoid-1"}


def test_a_failed_experiment_is_tried_once_more_and_the_others_go_on(capsys):
    """Training fails once, and always; one at a time, so that the order does not depend on the machine."""
    Path("control/fail-linear-0").write_text("1")
    Path("control/fail-linear-1").write_text("9")
    assert study("run", TINY, "--slots", "1") == 1
    assert records().keys() == {*NAMES} - {"linear-1"}
    assert [ran().count(f"train linear {seed}") for seed in range(2)] == [2, 2]
    assert "failed: linear-1: train: out of luck" in capsys.readouterr().err
    assert failures() == {"linear-1"}
    Path("control/fail-linear-1").unlink()
    assert study("run", TINY) == 0
    assert records().keys() == {*NAMES}
    assert not failures()


def test_a_full_disk_fails_one_experiment_whose_model_is_kept(capsys):
    Path("control/full-cosine.png").touch()
    assert study("run", TINY, "--line", "1") == 1
    assert "No space left" in capsys.readouterr().err
    assert not records()
    Path("control/full-cosine.png").unlink()
    assert study("run", TINY, "--line", "1") == 0
    assert ran().count("train cosine 0") == 1


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
    assert study("status", TINY, "--json") == 0
    states = {each["name"]: each["state"] for each in json.loads(capsys.readouterr().out)["experiments"]}
    assert states == dict.fromkeys(NAMES, "missing") | {"cosine-0": "running"}
    whole = start(TINY)
    until("train linear 0")
    Path("control/sleep").unlink()
    assert (other.wait(), same.wait(), whole.wait()) == (0, 0, 0)
    assert all(ran().count(f"train {name.replace('-', ' ')}") == 1 for name in NAMES)


def test_kept_data_that_has_changed_is_not_used(capsys):
    assert study("run", TINY, "--line", "1") == 0
    [kept] = pool.FOLDER.glob("preprocess-*/data/preprocess")
    kept.write_text("other images")
    assert study("run", TINY, "--line", "2") == 1
    assert str(kept.parents[1].name) in capsys.readouterr().err
    assert records().keys() == {"cosine-0"}
    assert study("clean") == 0
    assert study("run", TINY, "--line", "2") == 0


def test_what_a_killed_process_left_does_not_matter():
    assert study("run", TINY, "--line", "1") == 0
    before = {path.name for path in pool.FOLDER.iterdir()}
    Path("control/fail-linear-0").write_text("9")
    assert study("run", TINY, "--line", "2") == 1
    [folder] = (path for path in pool.FOLDER.iterdir() if path.is_dir() and path.name not in before)
    for path in ("params.yaml", "data/model", "metrics/run.json", "junk"):
        (folder / path).write_text("half")
    Path("control/fail-linear-0").unlink()
    assert study("run", TINY, "--line", "2") == 0
    assert records()["linear-0"]["scores"] == {"classifier.fd": 3.0}
    # data stay for the next experiment, a model that another job may need stays, and nothing else
    assert {path.name.partition("-")[0] for path in pool.FOLDER.iterdir() if path.is_dir()} == {
        "download", "preprocess", "reference", "train",
    }  # fmt: skip


def test_other_code_than_that_of_the_first_result_runs_only_if_its_commit_is_named(capsys):
    Path("control/fail-cosine-0").write_text("9")
    assert study("run", TINY, "--line", "1") == 1
    edit(STAGE, "if fault.exists()", "if False")  # without a result, the study has not begun
    first = git("rev-parse", "HEAD")
    assert study("run", TINY, "--line", "1") == 0
    Path("README.md").write_text("not code")
    commit("another commit, of the same code")
    assert study("run", TINY, "--line", "2") == 0
    edit(STAGE, "2 + 0.1", "7 + 0.1")
    for line in ((), ("--line", "3")):
        message = refused(capsys, "run", TINY, *line)
        assert f"{STAGE} differs" in message
        assert f"`--commit {first[:10]}`" in message
    shutil.rmtree(".ddpm")  # as on another machine, which takes the results from git
    assert study("run", TINY, "--line", "3", "--commit", first[:10]) == 0
    assert records()["cosine-1"]["revision"] == first
    assert records()["cosine-1"]["code"] == records()["cosine-0"]["code"]
    assert "no such commit" in refused(capsys, "run", TINY, "--commit", "nothing")


def test_what_is_not_committed_is_refused(capsys):
    for path, text in ((Path("studies/new.yaml"), STUDY), (Path(STAGE), "changed"), (Path("stages/more.py"), "new")):
        path.write_text(text)
        plan = str(path) if path.suffix == ".yaml" else TINY
        assert f"{path}: has uncommitted changes" in refused(capsys, "run", plan)
        git("checkout", "--", "stages")
    for path, reason in ((Path("studies/new.yaml").absolute(), "uncommitted"), (Path("../new.yaml"), "is not in")):
        path.write_text(STUDY)
        assert reason in refused(capsys, "run", str(path))


def test_a_plan_that_changed_after_results_is_refused(capsys):
    assert study("run", TINY, "--line", "1") == 0
    params = Path("params.yaml")
    for path, old, new in ((PLAN, "[2]", "[3]"), (params, "learning_rate: 0.002", "learning_rate: 0.003")):
        before = path.read_text()
        path.write_text(before.replace(old, new))
        for command in ("run", "verdict"):
            assert f"made under another plan than {PLAN}" in refused(capsys, command, TINY)
        assert study("status", TINY) == 0
        assert f"made under another plan than {PLAN}" in capsys.readouterr().out
        path.write_text(before)
    edit(PLAN, "Which schedule?", "Which one?")
    assert study("run", TINY, "--line", "1") == 0


def test_status_shows_what_is_done_failed_and_missing_and_how_long_the_rest_takes(capsys):
    edit(STAGE, '{"train": 1.0}', '{"train": 7200.0}')  # of a run that the cache may give in a second
    Path("control/fail-linear-0").write_text("9")
    assert study("run", TINY, "--line", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"failed": {}}
    assert study("run", TINY, "--line", "2") == 1
    capsys.readouterr()
    assert study("status", TINY, "--json", "--slots", "2") == 0
    status = json.loads(capsys.readouterr().out)
    assert [row["state"] for row in status["experiments"]] == ["done", "failed", "missing", "missing"]
    assert status["left"] == ["linear-0", "cosine-1", "linear-1"]
    assert (status["seconds_each"], status["slots"]) == (7200, 2)
    assert "out of luck" in status["experiments"][1]["reason"]


def test_a_study_goes_on_with_the_code_at_hand_if_code_may_differ():
    assert study("run", TINY, "--line", "1") == 0
    edit(STAGE, "2 + 0.1", "7 + 0.1")
    PLAN.write_text(f"{STUDY}may_differ: [code]\n")
    commit("code may differ")
    assert study("run", TINY, "--line", "2") == 0
    assert records()["linear-0"]["scores"] == {"classifier.fd": 8.0}
    assert records()["linear-0"]["revision"] == git("rev-parse", "HEAD")
