"""Runs of a program in a repository of its own: what goes wrong is a row with a reason, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from ddpm.arms import program_runs
from ddpm.arms.pool import Done, Task
from ddpm.arms.program_runs import ProgramPool
from ddpm.base.errors import UserError
from ddpm.programs import worktree
from tests.programs.test_program import program
from tests.study_project import git

TRAIN = """
import sys, os, pathlib, time
seed, lr = int(sys.argv[1]), float(sys.argv[2])
print(f"val_loss: {lr + seed / 1e6}")
"""


@pytest.fixture(autouse=True)
def _repository(tmp_path, monkeypatch):
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    git("init", "--quiet", "--initial-branch=main", "--template=")
    Path("data.txt").write_text("a")
    write("")
    yield
    assert not list(worktree.FOLDER.glob("*"))
    assert len(git("worktree", "list").splitlines()) == 1
    assert not git("status", "--porcelain", "--untracked-files=no")


def write(text: str, whole: bool = False) -> str:
    """Commit train.py with these lines at its end, and return the commit."""
    Path("train.py").write_text(text if whole else TRAIN + textwrap.dedent(text))
    git("add", "train.py", "data.txt")
    git("commit", "--quiet", "--allow-empty", "--message=x")
    return git("rev-parse", "HEAD").strip()


def ask(name: str, seed: int, commit: str = "", **values: float) -> Task:
    commit = commit or git("rev-parse", "HEAD").strip()
    return Task(name, {**values, "commit": commit, "seed": seed}, Path(f"logs/{name}.log"))


def make(*tasks: Task, slots: int = 1, **changes: object) -> list[Done]:
    terms = {"run": f"{sys.executable} -SE train.py {{seed}} {{lr}}", **changes}
    with ProgramPool(program(**terms), slots) as pool:
        for task in tasks or [ask("a", 3)]:
            pool.submit(task)
        return [*pool.results()]


def scores(*tasks: Task, **changes: object) -> list[dict[str, float]]:
    return [done.record.scores if done.record else {} for done in make(*tasks, **changes)]


def reason(text: str, **changes: object) -> str:
    """Why one run of train.py with these lines fails."""
    write(text)
    (done,) = make(**changes)
    assert done.record is None
    assert done.reason.isprintable()
    return done.reason


def test_rows_by_value_and_commit():
    first = git("rev-parse", "HEAD").strip()
    second = write("print('val_loss: 9')")
    tasks = [ask("a", 3, first), ask("b", 4, first, lr=0.5), ask("c", 5, second)]
    rows = make(*tasks)
    assert [done.task for done in rows] == tasks
    assert [done.record.scores["val_loss"] for done in rows if done.record] == [0.001003, 0.500004, 9.0]
    assert [done.record.revision for done in rows if done.record] == [first, first, second]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("raise ValueError('a bad width')", "a bad width"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("print('val_loss: nan')", "val_loss is nan"),
        ("print('val_loss: 1e200')", "val_loss is 1e"),
        ("sys.stderr.write('\\x1b[31mred\\x07\\n' * 10**5); sys.exit(1)", "red"),
        ("sys.stdout.buffer.write(bytes(range(256)) * 100); sys.exit(1)", "exit code 1"),
    ],
)
def test_a_run_that_fails_has_a_reason(text, says):
    assert says in reason(text)


def test_a_command_that_is_not_there_has_no_output_to_look_at():
    (done,) = make(run="gone {seed} {lr}")
    assert (done.record, done.reason[:22], Path("logs").exists()) == (None, "gone: cannot be run (N", False)
    assert "output" not in done.reason


@pytest.mark.parametrize(("changes", "says"), [
    ({"read": "val loss"}, "val loss=0.5"), ({"read": r"loss is (\d+)"}, r"loss is (\d+)"),
    ({"guards": {"memory": "lower"}}, "memory=0.5"),
])  # fmt: skip
def test_a_score_that_is_not_found_comes_with_the_form_that_it_needs(changes, says):
    assert says in reason("print('val loss 0.5')", **changes)


def test_the_seed_is_in_the_environment_too():
    write("print('val_loss:', os.environ['SEED'])")
    assert scores(ask("a", 3), run=f"{sys.executable} -SE train.py 0 {{lr}}") == [{"val_loss": 3.0}]


def test_a_run_that_takes_too_long_ends_with_all_that_it_started():
    text = """
    import subprocess
    sleep = [sys.executable, "-SEc", "import time; time.sleep(60)"]
    own = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
    print(*(one.pid for one in own), file=open(os.environ["PIDS"], "w"), flush=True)
    time.sleep(60)
    """
    pids = Path("pids").absolute()
    os.environ["PIDS"] = str(pids)
    begin = time.monotonic()
    assert "minutes" in reason(text, minutes=0.02)
    assert time.monotonic() - begin < 30
    assert not any(alive(int(pid)) for pid in pids.read_text().split())


def test_a_run_that_leaves_a_process_ends():
    """Which holds its output open."""
    text = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, file=sys.stderr)"
    write(text)
    begin = time.monotonic()
    assert scores() != [{}]
    assert time.monotonic() - begin < 30


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_leaving_early_kills_what_runs():
    write("print(os.getpid(), file=open(os.environ['PIDS'], 'w'), flush=True); time.sleep(60)")
    pids = Path("pids").absolute()
    os.environ["PIDS"] = str(pids)
    with ProgramPool(program(run=f"{sys.executable} -SE train.py {{seed}} {{lr}}"), 1) as pool:
        pool.submit(ask("a", 3))
        while not pids.exists() or not pids.read_text():
            for _ in pool.results(time.monotonic() + 0.1):
                pass
    assert not alive(int(pids.read_text()))


def test_a_run_that_prints_without_end_is_stopped(monkeypatch):
    monkeypatch.setattr(program_runs, "LARGEST_OUTPUT", 2**20)
    assert "printed more than" in reason("while True: print('x' * 1000)")


def test_each_run_begins_with_the_files_of_its_commit():
    write(
        "left, data = pathlib.Path('left'), pathlib.Path('data.txt')\n"
        "print('val_loss:', left.exists() + len(data.read_text())); left.touch(); data.write_text('abc')"
    )
    assert scores(ask("a", 3), ask("b", 4)) == [{"val_loss": 1.0}, {"val_loss": 1.0}]


def test_what_git_does_not_have_is_seen_by_a_link():
    Path("data").mkdir()
    Path("data/x").write_text("7")
    write("print('val_loss:', pathlib.Path('data/x').read_text())")
    assert scores(ask("a", 3), ask("b", 4), links=["data"])[1] == {"val_loss": 7.0}
    assert Path("data/x").read_text() == "7"
    for links in (["none"], ["data.txt"]):
        with pytest.raises(UserError, match=f"links: {links[0]}"):
            make(links=links)


def test_a_score_in_a_file():
    write("pathlib.Path('out.json').write_text('{\"val\": {\"loss\": 0.25}}')")
    assert scores(read={"file": "out.json", "key": "val.loss"}) == [{"val.loss": 0.25}]
    assert "none.json" in make(read={"file": "none.json", "key": "val.loss"})[0].reason


def test_hooks_of_the_repository_do_not_run():
    hook = Path(".git/hooks/post-checkout")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ../../../hooked\nexit 1\n")
    hook.chmod(0o755)
    assert scores() != [{}]
    assert not Path("hooked").exists()


def test_what_a_killed_process_left_is_removed():
    write("print(os.getpid(), file=open(os.environ['PIDS'], 'w'), flush=True); time.sleep(60)")
    pids = Path("pids").absolute()
    code = f"""
from tests.programs.test_maker import ProgramPool, ask, program
with ProgramPool(program(run="{sys.executable} -SE train.py {{seed}} {{lr}}"), 1) as pool:
    pool.submit(ask("a", 3))
    list(pool.results())
"""
    environment: Mapping[str, str] = os.environ | {"PIDS": str(pids), "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        while not pids.exists() or not pids.read_text():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert list(worktree.FOLDER.glob("*"))
    write("")
    assert scores() != [{}]
    assert not alive(int(pids.read_text()))
