"""Runs that were never trained: results with given scores, and DVC experiments with given files."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ddpm.base import paths
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.runs.alike import Run
from tests.small import PARAMS

BASELINE = "0123456789abcdef0123456789abcdef01234567"  # the commit that the experiments started from
CODE = {"ddpm/training": "c0de00000000"}  # digests of the files that made a run


def params(**changes: Any) -> dict[str, Any]:
    """The small params with some keys set: sections joined by two underscores (``train__steps=3``)."""
    changed = copy.deepcopy(PARAMS)
    for key, value in changes.items():
        *sections, name = key.split("__")
        block = changed
        for section in sections:
            block = block.setdefault(section, {})
        block[name] = value
    return changed


def working(**changes: Any) -> Config:
    return config.check(params(**changes), "test")


@cache
def _flat(changes: str) -> dict[str, Any]:
    """``working`` with these changes, as JSON, in Run's form. Read only."""
    return working(**json.loads(changes)).flat()


def result(schedule: str = "cosine", seed: int = 0, fd: float = 1.0, **fields: Any) -> Run:
    """A result. fields: the fields of the Run that differ; ``params`` are changes as ``params()`` takes them."""
    changes = {"diffusion__schedule": {"name": schedule}, "seed": seed, **fields.pop("params", {})}
    made = {
        "name": f"{schedule}-{seed}",
        "source": "dvc",
        "params": dict(_flat(json.dumps(changes))),
        "scores": {"classifier.fd": fd},
        "seed": seed,
        "images_seen": 96,
        "parameters": 1000,
        "evaluations": 5,
        "precision": "float32",
        "processor": "a CPU",
        "fingerprint": "f" * 64,
        "fingerprint_without_sampling": "e" * 64,
        "sampling_precision": "float32",
        "code": CODE,
        "when": 100.0,
    }
    return Run(**made | fields)


@dataclass(frozen=True)
class Experiment:
    """What is unusual in a DVC experiment: params as ``params()`` takes them; made_by: those that the stages ran with,
    if others; files replace; None leaves one out."""

    name: str
    fd: float = 1.0
    params: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str | None] = field(default_factory=dict)
    evaluations: int = 5
    when: int = 1_700_000_000
    fingerprint: str = "f" * 64
    code: dict[str, str] = field(default_factory=lambda: dict(CODE))
    base: str = ""  # the commit that it started from, if that is in the repository
    made_by: dict[str, Any] | None = None

    def contents(self) -> dict[str, str]:
        """Path -> text, including a dvc.lock that records that these params made the metrics."""
        ran, made_by = params(**self.params), working(**(self.params if self.made_by is None else self.made_by))
        metrics: dict[str, Any] = {
            "metrics/evaluate.json": {"classifier": {"fd": self.fd, "kid_mean": self.fd / 100}},
            "metrics/fingerprint.json": {
                "hash": self.fingerprint,
                "hash_without_sampling": "e" * 64,
                "comparable": {"sampling": {"precision": "float32"}},
                "environment": {"training_precision": "float32", "processor": "a CPU"},
                "config": made_by.evaluate.identity(),
            },
            "metrics/train.json": {
                "images_seen": 96,
                "parameters": 1000,
                "device": "cpu",
                "config": made_by.training().identity(),
            },
            "metrics/sample.json": {
                "evaluations_per_image": self.evaluations,
                "seconds": 0.5,
                "config": made_by.sample.identity(),
            },
        }
        texts = {path: json.dumps(value) for path, value in metrics.items()}
        outs = [{"path": path, "md5": md5(text), "hash": "md5"} for path, text in texts.items()]
        deps = [{"path": path, "md5": digest.ljust(32, "0")} for path, digest in self.code.items()]
        stage = {"cmd": "true", "params": {"params.yaml": ran}, "deps": deps, "outs": outs}
        texts |= {
            "params.yaml": yaml.safe_dump(ran),
            "dvc.lock": yaml.safe_dump({"schema": "2.0", "stages": {"evaluate": stage}}),
        }
        return {path: text for path, text in (texts | self.files).items() if text is not None}

    def write(self, folder: Path) -> None:
        """Write the files into a working folder."""
        for path, text in self.contents().items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)


def settle() -> None:
    """Make dvc.lock record that the working folder's params and code made its metrics, as ``dvc repro`` does."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": {"cmd": "true"}}}))
    made = [path for path in sorted(Path("metrics").glob("*.json")) if path != paths.BASELINE]
    outs = [{"path": str(path), "md5": md5(path.read_text())} for path in made]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"evaluate": {"outs": outs}}}))


def grid(schedules: dict[str, float], seeds: Iterable[int], spread: float = 0.01) -> list[Experiment]:
    """An experiment per schedule, with the given mean distance, and per seed, which moves all nearly alike."""
    return [
        Experiment(
            f"{schedule}-{seed}",
            mean + spread * (seed % 3) + spread / 10 * ((seed * 7 + number * 3) % 5),
            {"diffusion__schedule": {"name": schedule}, "seed": seed},
        )
        for number, (schedule, mean) in enumerate(schedules.items())
        for seed in seeds
    ]


def record(folder: Path, experiments: Iterable[Experiment]) -> None:
    """Make the folder a git repository, unless it is one, and put the experiments where DVC keeps its own."""
    git("init", "--quiet", "--template=", cwd=folder)
    stream = []
    for experiment in experiments:
        stream.append(f"commit {reference(experiment.name)}")
        stream.append(f"committer t <t@example.org> {experiment.when} +0000")
        stream += ["data 0", *([f"from {experiment.base}"] if experiment.base else []), "deleteall"]
        for path, text in experiment.contents().items():
            stream += [f"M 100644 inline {path}", f"data {len(text.encode())}", text]
    given = "\n".join([*stream, ""]).encode()
    git("fast-import", "--quiet", cwd=folder, given=given)


def reference(name: str) -> str:
    """Where DVC keeps an experiment of that name."""
    return f"refs/exps/{BASELINE[:2]}/{BASELINE[2:]}/{name}"


def git(*arguments: str, cwd: Path | None = None, given: bytes = b"") -> str:
    answer = subprocess.run(["git", *arguments], cwd=cwd, input=given, check=True, capture_output=True)
    return answer.stdout.decode().strip()


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
