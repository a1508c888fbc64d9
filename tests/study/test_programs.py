"""Another trainer as an arm of a study: what it is given, what it may write, and what is recorded."""

import signal
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.base.files import md5
from ddpm.study import loading
from tests.study_project import PLAN, RESULTS, commit, records, start, study

TINY = str(PLAN)
STUDY = """\
question: Is the other one better?
arms:
  ours: {}
  other:
    {program: "python tools/peer.py --seed={seed} {train} {test} {samples}", files: [tools/peer.py],
     costs: {images_seen: 1}}
looks: [2]
"""
PEER = """
import os, pathlib, sys, time
import numpy as np

control = pathlib.Path(os.environ["DVC_ROOT"], "control")
with (control / "peer").open("a") as peer:
    peer.write(" ".join(sys.argv[1:]) + "\\n")
while (control / "wait").exists():
    time.sleep(0.02)
seed, train, test, samples = sys.argv[1:]
open("data/preprocess", "a").write("other images")  # of its copy; what others get is refused once it has changed
assert not pathlib.Path(samples).exists()
IMAGES
"""
IMAGES = "np.save(samples, np.zeros((500, 1, 16, 16), np.uint8))"


@pytest.fixture(autouse=True)
def _peer(project) -> None:
    Path("tools").mkdir()
    PLAN.write_text(STUDY)
    write(IMAGES)


def write(images: str) -> None:
    Path("tools/peer.py").write_text(PEER.replace("IMAGES", images))
    commit("a peer")


def calls() -> list[list[str]]:
    return [line.split() for line in Path("control/peer").read_text().splitlines()]


def test_a_program_is_judged_next_to_ours(capsys):
    assert study("run", TINY) == 0
    assert "other is better" in capsys.readouterr().out
    assert sorted(call[0] for call in calls()) == ["--seed=0", "--seed=1"]
    names = [Path(path).parts[-4:] for path in calls()[0][1:]]
    assert names[:2] == [("data", "processed", split, "images.npy") for split in ("train", "test")]
    run = records()["other-1"]
    assert run["program"] == "python tools/peer.py --seed={seed} {train} {test} {samples}"
    assert run["code"] == {"tools/peer.py": md5(Path("tools/peer.py"))}
    assert (run["seed"], run["costs"]["images_seen"], run["costs"]["parameters"]) == (1, 1, None)
    assert run["costs"]["seconds"]["program"] > 0
    # next to what `ddpm score` says of the scores
    assert (run["environment"]["scipy"], run["environment"]["torch"]) == ("1", metadata.version("torch"))
    assert (RESULTS / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert study("run", TINY) == 0
    assert len(calls()) == 2


def test_what_it_does_wrong_is_a_failure_with_a_reason(capsys):
    PLAN.write_text(STUDY.replace("[2]", "[3]"))
    write("if '=0' in seed: sys.exit('no GPU')\nif '=1' in seed: np.save(samples, np.zeros((11, 1, 16, 16), np.uint8))")
    assert study("run", TINY) == 1
    lines = capsys.readouterr().err.splitlines()
    reasons = ("exit code 1: no GPU", "(11, 1, 16, 16); allowed: (500, 1, 16, 16)", "samples.npy: ")
    for seed, reason in enumerate(reasons):
        assert any(line.startswith(f"failed: other-{seed}: ") and reason in line for line in lines)
    assert records().keys() == {f"ours-{seed}" for seed in range(3)}


def test_it_is_killed_with_the_study_and_starts_from_its_beginning():
    Path("control/wait").touch()
    process = start(TINY, "--line", "2")
    end = time.monotonic() + 300
    while not Path("control/peer").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    Path("control/wait").unlink()
    assert study("run", TINY, "--line", "2") == 0
    assert Counter(call[0] for call in calls()) == {"--seed=0": 2}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (" {samples}", "", "needs {seed}, and {samples}"),
        ("[tools/peer.py]", "[/etc/passwd]", "/etc/passwd"),
        ("program:", "train.steps: 3, program:", "train.steps"),
        ("looks", "tune: {train.learning_rate: [0.001, 0.01], seeds: 4}\nlooks", "tune changes params"),
    ],
)
def test_what_is_refused(old, new, reason):
    assert old in STUDY
    PLAN.write_text(STUDY.replace(old, new))
    with pytest.raises(UserError) as refused:
        loading.load(PLAN)
    assert str(refused.value).startswith(f"{PLAN}: arms.other")
    assert reason in str(refused.value)
