"""Runs that are killed again and again, which `make faults` repeats, and files and disks that fail."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base import files
from ddpm.base.errors import UserError, exit_code
from ddpm.model.model_file import load_model
from ddpm.params import inputs
from ddpm.training.checkpoints import Checkpoints
from tests.faults import kills

CPU = torch.device("cpu")
LIVES = int(os.environ.get("DDPM_TEST_LIVES", "0"))  # of each way to run the pipeline; 0: one of the short way
SHORT = kills.Way(("child", "dvc", "group"), ("train", "evaluate"))
WEIGHTS = {
    "weights": torch.linspace(-1, 1, 300), "half": torch.ones(3, 5, dtype=torch.bfloat16), "step": torch.tensor(7.0),
}  # fmt: skip
WRITE_TOO_MUCH = """
import resource, sys
from pathlib import Path
from ddpm.base import files
from ddpm.base.errors import exit_code
def json(): files.write_json(Path("out"), list(range(5000)))
def array():
    import numpy as np
    with files.atomic_path(Path("out")) as path, path.open("wb") as file: np.save(file, np.zeros(5000))
def tensors():
    import torch
    from ddpm.model import model_file
    model_file.write_tensors(Path("out"), {"x": torch.zeros(5000)}, {})
def plain(): Path("out").write_bytes(bytes(9000))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
sys.exit(exit_code(globals()[sys.argv[1]]))
"""
START_LATE = (
    "import time; from stages import __main__ as runner; time.sleep(1); runner.die_with_parent(); print('at work')"
)


def truncated(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def flipped(path: Path, generator: random.Random) -> None:
    """Flip one bit of the file."""
    content = bytearray(path.read_bytes())
    content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def blanked(path: Path, generator: random.Random) -> None:
    """Put noise in a page in the middle, as after a write that never arrived."""
    with path.open("r+b") as file:
        file.seek(generator.randrange(max(1, path.stat().st_size - 4096)))
        file.write(generator.randbytes(4096))


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


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([truncated, flipped, blanked]))
def test_a_checkpoint_that_is_damaged_anywhere_is_not_used(generations, seed, damage):
    last = generations.folder / "000000010.safetensors"
    content = last.read_bytes()
    damage(last, random.Random(seed))  # noqa: S311
    loaded = generations.load(CPU)
    last.write_bytes(content)
    assert loaded[1] == 5
    for name, tensor in WEIGHTS.items():
        torch.testing.assert_close(loaded[0]["network"][name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("damage", [flipped, truncated])
def test_when_no_checkpoint_can_be_read_the_run_begins_again_says_so_and_keeps_what_it_saves(tmp_path, damage, capsys):
    checkpoints = two_generations(tmp_path)
    for path in checkpoints.folder.glob("*.safetensors"):
        damage(path, random.Random(0))  # noqa: S311
    assert checkpoints.load(CPU) is None
    assert capsys.readouterr().err.count("using the previous checkpoint") == 2
    kept = []
    for step in (1, 2, 3):
        checkpoints.save(step, {"network": WEIGHTS})
        assert checkpoints.load(CPU)[1] == step
        kept.append(steps(checkpoints))
    assert kept == [[1], [1, 2], [2, 3]]


def test_a_run_that_goes_on_from_the_older_state_drops_the_torn_one_and_keeps_two_good_ones(tmp_path):
    checkpoints = two_generations(tmp_path)
    truncated(checkpoints.folder / "000000010.safetensors", random.Random(0))  # noqa: S311
    checkpoints.save(6, {"network": WEIGHTS})
    assert steps(checkpoints) == [5, 6]


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


@pytest.mark.parametrize("what", ["json", "array", "tensors", "plain"])
def test_a_disk_that_is_full_ends_in_one_line_and_exit_code_2(what):
    # a coverage measurement could not write its data either
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run([sys.executable, "-c", WRITE_TOO_MUCH, what], env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the disk" if what == "plain" else "error: out")
    assert "space" in done.stderr
    assert what == "plain" or list(Path().iterdir()) == []


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
    with Path("said").open("w") as said:
        group = subprocess.Popen(
            [sys.executable, "-c", parent], env=environment, stdout=said, stderr=said, start_new_session=True
        )
        group.wait()
    deadline = time.monotonic() + 60
    while _group_lives(group.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Path("said").read_text() == expected


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_damaged_model_file_is_refused(model_file):
    content = bytearray(model_file.read_bytes())
    content[-100] ^= 1
    Path("model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="checksum"):
        load_model(Path("model.safetensors"), CPU)
