"""Runs that are killed again and again, which `make faults` repeats, and files and disks that fail."""

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base import files, machine
from ddpm.base.errors import exit_code
from ddpm.model.model_file import write_tensors
from ddpm.params import inputs
from ddpm.training.checkpoints import Checkpoints
from tests.faults import kills

CPU = torch.device("cpu")
LIVES = int(os.environ.get("DDPM_TEST_LIVES", "0"))  # of each way to run the pipeline; 0: one of the short way
SHORT = kills.Way(("child", "dvc", "group"), ("train", "evaluate"))
WEIGHTS = {
    "weights": torch.linspace(-1, 1, 300), "half": torch.ones(3, 5, dtype=torch.bfloat16), "step": torch.tensor(7.0),
}  # fmt: skip
START_LATE = "import time; from ddpm.base import machine; time.sleep(1); machine.die_with_parent(); print('at work')"


def truncated(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def flipped(path: Path, generator: random.Random) -> None:
    """Flip one bit of the file."""
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module", params=kills.WAYS if LIVES else ["short"])
def whole(request, tmp_path_factory) -> tuple[kills.Way, kills.Victim, kills.Reference]:
    """A way to run the pipeline, a project in which nothing that is killed has run, and what must come of it."""
    way = kills.WAYS.get(request.param, SHORT)
    folder = tmp_path_factory.mktemp("whole")
    start = kills.Victim(folder / "start", way.changes)
    reference = kills.uninterrupted(start.copy(folder / "whole"))
    if way.stages != kills.STAGES:
        start.run("dvc", "repro", "reference")
    return way, start, reference


@pytest.mark.long
@pytest.mark.parametrize("number", range(max(1, LIVES)))
def test_a_run_that_is_killed_in_each_of_its_stages_loses_nothing(whole, number, tmp_path):
    way, start, reference = whole
    trials = kills.life(start, tmp_path / "killed", way, reference, random.Random(1 + number))  # noqa: S311
    assert trials
    assert [trial for trial in trials if trial.lost] == []


def two_generations(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints("damaged")
    checkpoints.folder = folder
    for step in (5, 10):
        checkpoints.save(step, {"network": WEIGHTS})
    return checkpoints


def steps(checkpoints: Checkpoints) -> list[int]:
    return sorted(int(path.stem) for path in checkpoints.folder.glob("*.safetensors"))


@pytest.fixture(scope="session")
def generations(tmp_path_factory) -> Checkpoints:
    return two_generations(tmp_path_factory.mktemp("generations"))


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from([truncated, flipped]))
def test_a_checkpoint_that_is_damaged_anywhere_is_not_used(generations, seed, damage):
    last = generations.folder / "000000010.safetensors"
    content = last.read_bytes()
    damage(last, random.Random(seed))  # noqa: S311
    loaded = generations.load(CPU)
    last.write_bytes(content)
    assert loaded[1] == 5
    for name, tensor in WEIGHTS.items():
        torch.testing.assert_close(loaded[0]["network"][name], tensor, rtol=0, atol=0)


def test_a_run_goes_on_from_a_whole_state_or_begins_again_and_keeps_two(tmp_path):
    checkpoints = two_generations(tmp_path)
    truncated(checkpoints.folder / "000000010.safetensors", random.Random(0))  # noqa: S311
    checkpoints.save(6, {"network": WEIGHTS})
    assert steps(checkpoints) == [5, 6]
    for path in checkpoints.folder.glob("*.safetensors"):
        flipped(path, random.Random(0))  # noqa: S311
    assert checkpoints.load(CPU) is None
    for step, kept in {1: [1], 2: [1, 2], 3: [2, 3]}.items():
        checkpoints.save(step, {"network": WEIGHTS})
        assert checkpoints.load(CPU)[1] == step
        assert steps(checkpoints) == kept


@pytest.mark.parametrize("half", ["", "stages", "stages:\n  tra", "stages:\n  train: {outs: [", "stages: {sample: 1}"])
def test_half_a_dvc_lock_says_nothing_of_a_stage(half):
    absent = inputs.on_record("train", {})
    Path("dvc.lock").write_text(half)
    assert inputs.on_record("train", {}) == absent
    Path("dvc.lock").write_text("stages: {train: {outs: [{md5: '1'}]}}")
    assert inputs.on_record("train", {}) != absent


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not():
    left = "from ddpm.base.files import atomic_path; from pathlib import Path; import os, signal\n"
    left += "with atomic_path(Path('out.json')) as path: path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    subprocess.run([sys.executable, "-c", left], check=False)
    (remains,) = Path().glob(".out.json.*")
    Path(".out.json.swp").write_text("an editor's")
    with files.atomic_path(Path("out.json")) as slow:
        assert not remains.exists()
        slow.write_text("slow")
        files.write_json(Path("out.json"), "quick")
        assert slow.exists()
    assert Path("out.json").read_text() == "slow"
    assert sorted(path.name for path in Path().iterdir()) == [".out.json.swp", "out.json"]


def write_array() -> None:
    with files.atomic_path(Path("out")) as path, path.open("wb") as file:
        np.save(file, np.zeros(5000))


WRITERS = {
    "a file that is closed": lambda: Path("out").write_bytes(bytes(9000)),
    "json": lambda: files.write_json(Path("out"), list(range(5000))),
    "tensors": lambda: write_tensors(Path("out"), {"x": torch.zeros(5000)}, {}),
    "array": write_array,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_disk_that_is_full_ends_in_one_line_and_exit_code_2(what, tmp_path_factory):
    said = tmp_path_factory.mktemp("full") / "said"
    if (child := os.fork()) == 0:
        sys.stderr = said.open("w")
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        code = exit_code(WRITERS[what])
        sys.stderr.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    (line,) = said.read_text().splitlines()
    assert line.startswith("error: out" if what != "a file that is closed" else "error: the disk")
    assert "space" in line
    assert what == "a file that is closed" or list(Path().iterdir()) == []


def test_ctrl_c_ends_without_a_traceback(capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_code(interrupted) == 128 + signal.SIGINT
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process of its parent's death")
@pytest.mark.parametrize(("dies", "expected"), [(False, "at work\n"), (True, "")])
def test_a_stage_whose_parent_died_while_it_was_starting_does_not_begin(dies, expected):
    """As DVC starts a stage: in its own process group, not the group of the process that adopts orphans."""
    parent = f"import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {START_LATE!r}])"
    parent += "" if dies else "; child.wait()"
    environment = {**os.environ, "DVC_STAGE": "train", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True) as group:
        assert group.stdout.read().decode() == expected  # until the last of the group has ended


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_waits_until_a_child_is_started(number, raised):
    before, reached = machine.exit_at_sigterm(), []
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    try:
        with pytest.raises(raised), machine.hold_signals():  # noqa: PT012
            os.kill(os.getpid(), number)
            reached.append(True)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupt)
    assert reached
