"""``ddpm ladder``: a stream of entries against a champion, on a project with stages that take no time."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ddpm.cli import main
from ddpm.study import worker
from tests import study_project
from tests.study_project import ROOT, commit, ran, until

FILE = Path("ladders/tiny.yaml")
LOG = Path("ladders/tiny/log.jsonl")
SCORE = {
    "question": "Which model is best?",
    "base": "digits_small",
    "kind": "score",
    "primary": "classifier.fd",
    "may_change": ["diffusion", "train", "sample.sampler"],
    "seeds": {"fewest": 6, "most": 16},
}
TARGET = SCORE | {"kind": "target", "target": 3.0, "cost": "images", "guards": ["random_conv.kid_mean", "memorisation"]}
BETTER, WORSE = {"diffusion.schedule.name": "sigmoid"}, {"diffusion.schedule.name": "linear"}
# scores that seem random, for a seed of any size
NOISE = """
    noise = (seed * 2654435761 % 2**32) / 2**32 - 0.5
    score = 2 + 0.3 * noise + (arm == "linear") * 0.8 - (arm == "sigmoid") * 0.5 - 0.1 * (arm == "sigmoid") * noise
    extra = {"random_conv.kid_mean": 0.1 + (arm == "quadratic") * 0.1 + 0.01 * noise}
"""
START = f"""
import sys

sys.path.insert(0, {ROOT!r})
from tests import study_project

study_project.quick()
study_project.main(["ladder", *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "project"
    study_project.make(folder)
    study_project.enter(folder, monkeypatch)
    stage = Path("stages/stage.py")
    lines = stage.read_text().splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("    score = "))
    lines[at : at + 1] = NOISE.strip("\n").splitlines()
    stage.write_text("\n".join(lines).replace('{"classifier.fd": score}', '{"classifier.fd": score, **extra}'))
    (folder / "ideas").mkdir()
    FILE.parent.mkdir()
    with Path(".gitignore").open("a") as ignored:
        ignored.write("/ladders/*/runs/*/*.lock\n")
    write(SCORE)
    return folder


def write(terms: dict[str, object]) -> None:
    FILE.write_text(yaml.safe_dump(terms))
    commit("a ladder")


def idea(name: str, changes: dict[str, object]) -> str:
    path = Path(f"ideas/{name}.yaml")
    path.write_text(yaml.safe_dump(changes))
    return str(path)


def ladder(*arguments: str) -> int:
    """The exit code of ``ddpm ladder``."""
    with pytest.raises(SystemExit) as left:
        main(["ladder", *arguments])
    return int(left.value.code or 0)


def log() -> list[dict[str, object]]:
    return [json.loads(line) for line in LOG.read_text().splitlines()]


def test_a(capsys):
    assert ladder("try", "tiny", idea("worse", WORSE)) == 1
    assert ladder("try", "tiny", idea("better", BETTER)) == 0
    print(capsys.readouterr().out)
    assert ladder("show", "tiny") == 0
    print(capsys.readouterr().out)
    print(LOG.read_text())
    assert ladder("challenge", "tiny", "1") == 0
    print(capsys.readouterr().out)
    assert 0
