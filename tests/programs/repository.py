"""A repository with a program that takes no time, a ladder and a study of it, and nothing of this project."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from tests.study_project import git

# lr 1 is worst; a seed moves the score by up to 0.05
TRAIN = """
import os, random, sys
seed, lr, width = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
with open(os.environ["COUNT"], "a") as count:
    print(seed, lr, width, file=count)
noise = random.Random(seed).random() / 20
print(f"val_loss: {lr + noise}\\nmemory: {width}")
"""
PROGRAM = {
    "question": "Which rate?", "run": "python -SE train.py {seed} {lr} {width}", "read": "val_loss", "better": "lower",
    "values": {"lr": 0.5, "width": 8},
}  # fmt: skip
LADDER = PROGRAM | {
    "space": {"lr": {"low": 0.01, "high": 1.0}}, "seeds": {"fewest": 2, "most": 24}, "error": 0.95,
}  # fmt: skip
STUDY = PROGRAM | {"arms": {"slow": {}, "fast": {"lr": 0.1}}, "looks": [6, 8]}
FILE, LOG, PLAN = Path("ladders/mine.yaml"), Path("ladders/mine/log.jsonl"), Path("studies/rates.yaml")


def build() -> None:
    """Make it in this folder."""
    git("init", "--quiet", "--initial-branch=main", "--template=")
    os.environ["COUNT"] = str(Path("../count").absolute())
    train("")
    write(PLAN, STUDY)
    write(FILE, LADDER)


def write(path: Path, value: Any) -> str:
    """Commit a YAML file, and return its path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    commit()
    return str(path)


def train(more: str) -> str:
    """Commit train.py with these lines at its end, and return the commit."""
    Path("train.py").write_text(TRAIN + more)
    return commit()


def commit() -> str:
    git("add", "--all")
    git("commit", "--quiet", "--allow-empty", "--message=x")
    return git("rev-parse", "HEAD").strip()


def calls() -> list[list[str]]:
    """Seed, rate and width of each run so far."""
    path = Path(os.environ["COUNT"])
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def log() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LOG.read_text().splitlines()]
