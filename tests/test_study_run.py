"""``ddpm study run``: from a plan to a verdict, on a project with stages that take no time.

A stand-in takes DVC's place in the workers, except in the tests with the fixture ``dvc``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ddpm.base.files import write_json
from ddpm.runs import alike as runs
from ddpm.study import plan, results, slots, worker
from ddpm.verdicts import sensitivity as sanity
from tests import study_project
from tests.study_project import NAMES, PLAN, STUDY, commit, git, ran, refs, study

RUN = "import signal, sys; sys.path.insert(0, {root!r}); from tests import study_project; study_project.install(); "
RUN += "{install}; signal.signal(signal.SIGINT, signal.default_int_handler); "  # which a shell's background jobs ignore
RUN += "from ddpm.cli import main; main(['study', 'run', *sys.argv[1:]])"
ROOT = str(Path(__file__).parent.parent)
DVC, ask_dvc = worker.DVC, slots.dvc


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "project"
    study_project.make(folder)
    return folder


@pytest.fixture(autouse=True)
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    for name in ("DVC_ROOT", "DVC_STAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DDPM_TRACKING", "off")
    study_project.install(monkeypatch)
    study_project.quick(monkeypatch)
    monkeypatch.setattr(slots, "dvc", lambda *_: folder / ".dvc/cache")  # of `dvc cache dir`, which takes a second
    return folder


@pytest.fixture
def dvc(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC itself."""
    monkeypatch.setattr(worker, "DVC", DVC)
    monkeypatch.setattr(slots, "dvc", ask_dvc)


def start(*arguments: str) -> subprocess.Popen[str]:
    """As another process, with the same DVC or stand-in as here."""
    install = "pass" if worker.DVC == DVC else "study_project.quick()"
    command = [sys.executable, "-c", RUN.format(root=ROOT, install=install), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(what: str, patience: float = 300) -> None:
    """Wait until a stage has run."""
    end = time.monotonic() + patience
    while what not in ran():
        assert time.monotonic() < end, ran()
        time.sleep(0.02)


@pytest.mark.slow
def test_a_study_whose_time_is_over_says_so_and_goes_on_later() -> None:
    Path("control/sleep").write_text("600")
    going = start(str(PLAN), "--slots", "2", "--max-time", "0.1")
    said, _ = going.communicate(timeout=120)
    assert going.returncode == 75
    assert "stopped after 0.1 minutes: the same command goes on" in said
    Path("control/sleep").unlink()
    assert study("run", str(PLAN)) == 0
    assert set(refs()) == set(NAMES)


@pytest.mark.parametrize("minutes", ["0", "-1", "soon", "nan", "inf"])
def test_a_time_that_is_none_is_refused(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert study("run", str(PLAN), "--max-time", minutes) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ddpm study run: invalid value ")
    assert "--max-time" in line


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_a_study_runs_to_its_verdict_and_then_has_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert study("run", str(PLAN), "--slots", "2") == 0
    assert set(refs()) == set(NAMES)
    lines = capsys.readouterr().out.splitlines()
    head, planned = git("rev-parse", "HEAD").strip(), plan.load(PLAN).hash
    assert lines[-9:] == [
        "Which schedule?",
        "",
        "cosine: 2 runs",
        "linear: 2 runs",
        f"all runs are of commit {head}, by the plan {planned}",
        "",
        *(f"metrics/studies/tiny/{name}" for name in ("verdict.json", "verdict.md", "report.html")),
    ]
    assert "Which schedule?" in Path("metrics/studies/tiny/report.html").read_text()
    assert json.loads(Path("metrics/studies/tiny/verdict.json").read_text())["open"] == []
    # what experiments share is made once, by whichever comes first
    made = {f"{stage} {v} {s}" for stage in ("train", "evaluate") for v in ("cosine", "linear") for s in range(2)}
    assert sorted(set(ran()) - made) in (["reference cosine 0"], ["reference linear 0"])
    assert len(ran()) == len(made) + 1
    assert git("status", "--porcelain") == "?? metrics/studies/"
    before = refs()
    assert study("run", str(PLAN)) == 0
    assert refs() == before
    assert len(ran()) == 9


@pytest.mark.slow
def test_the_verdict_so_far_runs_nothing_and_is_the_one_that_a_whole_run_writes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert study("verdict", str(PLAN)) == 2
    assert capsys.readouterr().err == (
        "error: studies/tiny.yaml: none of its experiments is finished: `ddpm study run studies/tiny.yaml` runs them\n"
    )
    for line in ("1", "2", "3"):
        assert study("run", str(PLAN), "--line", line) == 0
    before = ran()
    capsys.readouterr()
    assert study("verdict", str(PLAN)) == 0
    said = capsys.readouterr().out
    assert "cosine: 2 runs" in said
    assert "linear: 1 run" in said
    written = Path("metrics/studies/tiny/verdict.json")
    assert json.loads(written.read_text())["open"] == ["cosine", "linear"]
    assert ran() == before
    assert study("run", str(PLAN)) == 0
    whole, before = written.read_bytes(), ran()
    written.unlink()
    assert study("verdict", str(PLAN)) == 0
    assert written.read_bytes() == whole
    assert ran() == before


def test_a_study_says_what_its_primary_metric_does_not_notice(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"whole": 1.0, "noticed": {"blur": {"mean": 1.0, "worse": 0.5}, "noise": {"mean": 2.0, "worse": 1.0}}}
    data = sanity.data_params(plan.load(PLAN).configs["cosine"].data)
    sanity.PATH.parent.mkdir(exist_ok=True)
    found = {"images": 50, "samples": 50, "sets": 8, "data": data, "scores": {"classifier.fd": row}}
    write_json(sanity.PATH, found)
    assert study("run", str(PLAN), "--slots", "2") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert line.startswith("warning: classifier.fd is blind to what it should see in real images of this data (at 50 ")
    assert line.endswith("): blur")


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_its_results_are_dvc_experiments_that_other_commands_read() -> None:
    assert study("run", str(PLAN), "--line", "2") == 0
    (run,) = runs.gather().runs
    assert (run.seed, run.scores, run.params["diffusion.schedule.name"]) == (0, {"classifier.fd": 3.0}, "linear")
    listed = slots.dvc("exp", "list", "--name-only")
    assert listed.splitlines() == ["tiny-linear-0"]
    slots.dvc("exp", "apply", "tiny-linear-0")
    assert "name: linear" in Path("params.yaml").read_text()
    assert slots.dvc("status") == "Data and pipelines are up to date."


@pytest.mark.slow
def test_a_decided_variant_gets_no_more_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    PLAN.write_text(STUDY.replace("looks: [2]", "  sigmoid: {diffusion.schedule.name: sigmoid}\nlooks: [2, 3]"))
    commit("three variants, two looks")
    monkeypatch.setenv("DECIDED", "sigmoid 2")
    monkeypatch.setattr(plan.Design, "fewest", lambda *_: 2)  # the tests of the statistics cover it
    assert study("run", str(PLAN)) == 0
    more = {"tiny-cosine-2", "tiny-linear-2", "tiny-sigmoid-0", "tiny-sigmoid-1"}
    assert set(refs()) == {*NAMES, *more}


@pytest.mark.slow
def test_a_failed_experiment_is_tried_again_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("control/fail-linear-0").write_text("1")
    Path("control/fail-linear-1").write_text("9")
    assert study("run", str(PLAN)) == 1
    assert set(refs()) == {"tiny-cosine-0", "tiny-linear-0", "tiny-cosine-1"}
    assert ran().count("train linear 1") == 2
    log = ".ddpm/studies/tiny/tiny-linear-1.log"
    expected = f"failed: tiny-linear-1: train: out of luck; {log} has the whole output"
    assert capsys.readouterr().err.splitlines() == [expected]
    assert results.failures(plan.load(PLAN)).keys() == {"tiny-linear-1"}
    Path("control/fail-linear-1").unlink()
    assert study("run", str(PLAN)) == 0
    assert set(refs()) == set(NAMES)
    assert not results.failures(plan.load(PLAN))


def test_a_study_whose_experiments_all_fail_ends_in_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        Path(f"control/fail-{name.removeprefix('tiny-')}").write_text("9")
    assert study("run", str(PLAN)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert {line.split(": ")[1] for line in lines} == set(NAMES)
    assert all(line.startswith("failed: ") for line in lines)
    assert json.loads(Path("metrics/studies/tiny/verdict.json").read_text())["findings"] == []


def test_a_line_is_one_experiment_and_the_second_time_nothing() -> None:
    assert study("run", str(PLAN), "--line", "4") == 0
    before = refs()
    assert list(before) == ["tiny-linear-1"]
    assert study("run", str(PLAN), "--line", "4") == 0
    assert refs() == before
    assert ran().count("train linear 1") == 1


def test_variants_that_share_a_model_train_it_once() -> None:
    PLAN.write_text(STUDY.replace("{diffusion.schedule.name: linear}", "{sample.steps: 7}"))
    commit("two numbers of steps, of one model")
    Path("control/sleep").write_text("1")
    assert study("run", str(PLAN), "--slots", "2") == 0
    assert set(refs()) == set(NAMES)
    assert [line for line in ran() if line.startswith("train")] == ["train cosine 0", "train cosine 1"]


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_two_lines_that_share_a_model_wait_for_each_other() -> None:
    PLAN.write_text(STUDY.replace("{diffusion.schedule.name: linear}", "{sample.steps: 7}"))
    commit("two numbers of steps, of one model")
    Path("control/sleep").write_text("4")
    other = start(str(PLAN), "--line", "1")
    until("train cosine 0")
    assert study("run", str(PLAN), "--line", "2") == 0
    assert other.wait() == 0
    assert ran().count("train cosine 0") == 1


def test_two_workers_on_one_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    Path("control/sleep").write_text("60")
    other = start(str(PLAN), "--line", "1")
    until("train cosine 0")
    assert study("run", str(PLAN), "--line", "1") == 2
    Path("control/sleep").unlink()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: tiny-cosine-0: another process runs it")
    assert other.wait() == 0
    assert ran().count("train cosine 0") == 1


@pytest.mark.slow
def test_a_process_id_that_is_used_again_delays_nothing() -> None:
    """What versions before wrote into the lock, for a group of processes that is another one by now."""
    lock = results.state(plan.load(PLAN)) / f"{NAMES[0]}.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text(f"{socket.gethostname()} {os.getpgrp()}")
    started = time.monotonic()
    assert study("run", str(PLAN), "--line", "1") == 0
    assert time.monotonic() - started < 100


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_study_that_is_stopped_leaves_nothing_running_and_goes_on(number: signal.Signals) -> None:
    stop_with(number)
    assert study("run", str(PLAN)) == 0
    assert set(refs()) == set(NAMES)
    # started once before the stop, once after it, and never by two processes at a time
    assert ran().count("train cosine 0") == 2
    assert not results.failures(plan.load(PLAN))


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_so_does_what_dvc_had_started(number: signal.Signals) -> None:
    stop_with(number)
    assert study("run", str(PLAN), "--line", "1") == 0
    assert ran().count("train cosine 0") == 2


def stop_with(number: signal.Signals) -> None:
    """Stop a study whose first two experiments are being trained."""
    Path("control/sleep").write_text("30")
    process = start(str(PLAN), "--slots", "2")
    until("train linear 0")
    until("train cosine 0")
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], output
    Path("control/sleep").unlink()
    assert not refs()


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_what_a_killed_worker_left_in_a_slot_does_not_matter() -> None:
    assert study("run", str(PLAN), "--line", "1") == 0
    [slot] = (path for path in slots.SLOTS.iterdir() if path.is_dir())
    (slot / ".dvc/tmp/rwlock").write_text("")
    (slot / ".git/index.lock").touch()
    (slot / "params.yaml").write_text("half")
    (slot / "data/model").write_text("half")
    (slot / "junk").write_text("junk")
    assert study("run", str(PLAN), "--line", "2") == 0
    (slot / ".git/HEAD").write_text("damaged")
    Path("mine").write_text("kept")
    assert study("run", str(PLAN), "--line", "3") == 0
    assert Path("mine").exists()  # git would go up from a damaged clone, and clean this one
    assert git("branch", "--show-current") == "main"
    assert "junk" not in git("ls-tree", "-r", "--name-only", refs()["tiny-linear-0"]).splitlines()


@pytest.mark.slow
@pytest.mark.usefixtures("dvc")
def test_results_are_the_same_bytes_whatever_slot_made_them() -> None:
    def made() -> str:
        assert study("run", str(PLAN), "--line", "1") == 0
        return git("rev-parse", f"{refs()['tiny-cosine-0']}^{{tree}}")

    first = made()
    slots.dvc("exp", "remove", "tiny-cosine-0")
    [used] = slots.SLOTS.glob("*.lock")
    with slots.locked(used) as mine:
        assert mine
        assert made() == first
    assert len(list(slots.SLOTS.glob("*.lock"))) == 2


def test_a_study_goes_on_with_its_first_commit(capsys: pytest.CaptureFixture[str]) -> None:
    assert study("run", str(PLAN), "--line", "1") == 0
    first = git("rev-parse", "HEAD")
    stage = Path("stages/stage.py")
    stage.write_text(stage.read_text().replace("2 + 0.1", "7 + 0.1"))
    commit("other code")
    assert study("run", str(PLAN), "--line", "2") == 0
    assert f"continues with commit {first[:10]}" in capsys.readouterr().err
    assert {run.name: run.scores for run in runs.gather().runs}["tiny-linear-0"] == {"classifier.fd": 3.0}
    assert git("rev-parse", f"{refs()['tiny-linear-0']}^") == first


def test_results_from_elsewhere_do_not_choose_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    """As after fetching a bundle: the parent of a result is a commit that is on no branch here."""
    assert study("run", str(PLAN), "--line", "1") == 0
    name, made = next(iter(refs().items()))
    head, tree = git("rev-parse", "HEAD"), git("rev-parse", f"{made}^{{tree}}")
    Path("stages/stage.py").write_text("import os, pathlib; pathlib.Path(os.environ['DVC_ROOT'], 'PWNED').touch()")
    commit("other code")
    evil = git("rev-parse", "HEAD")
    git("reset", "--quiet", "--hard", head)
    message = git("log", "-1", "--format=%B", made)
    foreign = git("-c", "user.name=t", "-c", "user.email=t@e", "commit-tree", tree, "-p", evil, "-m", message)
    git("update-ref", "-d", results.reference(head, name))
    git("update-ref", results.reference(evil, name), foreign)
    before = ran()
    assert evil[:10] in refused(capsys, "run", str(PLAN))
    assert evil[:10] in refused(capsys, "run", str(PLAN), "--line", "2", "--commit", "HEAD")
    assert ran() == before
    assert not Path("PWNED").exists()
    assert study("run", str(PLAN), "--line", "2", "--commit", evil[:10]) == 2  # its stages make nothing
    assert Path("PWNED").exists()


def test_before_the_first_result_a_study_takes_the_commit_that_is_there() -> None:
    Path("control/fail-cosine-0").write_text("9")
    assert study("run", str(PLAN), "--line", "1") == 2
    stage = Path("stages/stage.py")
    stage.write_text(stage.read_text().replace("if fault.exists()", "if False"))
    commit("fixed")
    assert study("run", str(PLAN), "--line", "1") == 0
    assert git("rev-parse", f"{refs()['tiny-cosine-0']}^") == git("rev-parse", "HEAD")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a refused command."""
    before = refs()
    assert study(*arguments) == 2
    assert refs() == before
    [line] = capsys.readouterr().err.splitlines()
    return line


def test_what_is_not_committed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies/new.yaml").write_text(STUDY)
    assert "studies/new.yaml: not committed" in refused(capsys, "run", "studies/new.yaml")
    Path("stages/stage.py").write_text("changed")
    assert "stages/stage.py: has changes that are not committed" in refused(capsys, "run", str(PLAN))
    git("checkout", "--", "stages")
    Path("stages/more.py").write_text("new")
    assert "stages/more.py: has changes that are not committed" in refused(capsys, "run", str(PLAN))


def test_a_plan_that_changed_after_results_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert study("run", str(PLAN), "--line", "1") == 0
    PLAN.write_text(STUDY.replace("[2]", "[3]"))
    for told in ("`git diff studies/tiny.yaml`", "`git log -p studies/tiny.yaml`"):
        for command in ("run", "push"):
            line = refused(capsys, command, str(PLAN))
            assert line.startswith("error: studies/tiny.yaml: the plan is not the one that 1 results were made under")
            assert told in line
        assert study("status", str(PLAN)) == 0
        said = capsys.readouterr()
        assert "1 done" in said.out
        assert told in said.err
        git("add", "--all")
        git("-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "--quiet", "--allow-empty", "-m", "looks")
    PLAN.write_text(STUDY)
    commit("as before")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("learning_rate: 0.002", "learning_rate: 0.003"))
    assert "`git diff params.yaml`" in refused(capsys, "run", str(PLAN))
    git("checkout", "--", "params.yaml")
    PLAN.write_text(STUDY.replace("Which schedule?", "Which one?"))
    commit("other words")
    assert study("status", str(PLAN)) == 0


def test_an_experiment_of_somebody_else_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    git("update-ref", results.reference(git("rev-parse", "HEAD"), "tiny-cosine-0"), "HEAD")
    line = refused(capsys, "run", str(PLAN))
    assert line.startswith("error: tiny-cosine-0: `dvc exp run` made an experiment of this name")


@pytest.mark.parametrize("line", ["0", "5"])
def test_a_line_that_the_plan_does_not_have(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "allowed: 1 to 4" in refused(capsys, "run", str(PLAN), "--line", line)


def test_status_says_what_is_done_running_failed_and_missing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("control/fail-linear-0").write_text("9")
    assert study("run", str(PLAN), "--line", "1") == 0
    assert study("run", str(PLAN), "--line", "2") == 2
    Path("control/sleep").write_text("30")
    process = start(str(PLAN), "--line", "3")
    until("train cosine 1")
    capsys.readouterr()
    assert study("status", str(PLAN), "--json") == 0
    process.kill()
    process.wait()
    found = json.loads(capsys.readouterr().out)
    assert [each["state"] for each in found["experiments"]] == ["done", "failed", "running", "missing"]
    assert found["left"] == ["tiny-linear-0", "tiny-cosine-1", "tiny-linear-1"]
    assert found["seconds_left"] == pytest.approx(3 * found["seconds_each"] / found["slots"])
    assert "out of luck" in found["experiments"][1]["reason"]
    assert study("status", str(PLAN)) == 0
    assert "#" in capsys.readouterr().out


def test_a_run_that_takes_no_time_now_counts_as_long_as_it_once_took(capsys: pytest.CaptureFixture[str]) -> None:
    """As one does that DVC takes from its cache: a study's plan is for runs that have to be made."""
    stage = Path("stages/stage.py")
    stage.write_text(stage.read_text().replace('"seconds": 1.0', '"seconds": 7200.0'))
    commit("a training that says it took two hours")
    assert study("run", str(PLAN), "--line", "1") == 0
    capsys.readouterr()
    assert study("plan", str(PLAN), "--json") == 0
    assert 7200 <= json.loads(capsys.readouterr().out)["cost"]["seconds"] < 7201
    # the first took no time, but of the three others nobody knows that
    assert study("run", str(PLAN), "--slots", "1") == 0
    said = [line.rpartition("; ")[2] for line in capsys.readouterr().out.splitlines()[:3]]
    aim = "up to the look at 2 seeds"
    assert said == [f"1 of 3 {aim}, about 4.0 h left", f"2 of 3 {aim}, about 2.0 h left", f"3 of 3 {aim}"]


def test_study_commands_import_neither_torch_nor_mlflow() -> None:
    code = RUN.format(root=ROOT, install="pass").replace(
        "main([", "import atexit; atexit.register(lambda: print(*sys.modules)); main(["
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("'run'", "'status'"), str(PLAN)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not {"torch", "mlflow", "dvc"} & set(done.stdout.split())
