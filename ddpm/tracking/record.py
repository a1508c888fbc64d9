"""The content of a run, as plain data read from DVC's files. Nothing here knows MLflow.

A run belongs to one configuration: all inputs, as DVC sees them, of the stages that make and score a model. What these
stages make for each other follows from those inputs and may not exist yet, so it is not part of the run's key.
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, Self

from ddpm.base import files
from ddpm.base.errors import UserError, masked
from ddpm.base.paths import CURVE, FINGERPRINT, GRIDS, LOSS, METRICS, PROCESSED
from ddpm.data.processed import Manifest, called, read_manifest
from ddpm.params import config, credit, inputs

KEYED = ("reference", "train", "sample", "evaluate")
DERIVED = ("data/reference", "data/model", "data/samples", "metrics/train.json", "metrics/sample.json")

# stage -> the files that people look at
PICTURES = {
    "train": ("data/processed/dataset.png",),
    "sample": ("data/samples/grid.png", "data/samples/forward.png", "data/samples/reverse.mp4"),
    "evaluate": (
        "metrics/fingerprint.json",
        "metrics/scores.csv",
        "metrics/curve.csv",
        "metrics/fd_n.csv",
        "metrics/likelihood.csv",
        "metrics/excess.csv",
        "data/evaluation/nearest.png",
        "data/reference/calibration.json",
    ),
}
STAGES = tuple(PICTURES)
KEY = "ddpm.run_key"  # the tag that identifies a configuration's run
EXPERIMENT, BASELINE = "dvc.exp.name", "dvc.exp.baseline"  # tags: of DVC's experiment, if it is one
NOTE = "mlflow.note.content"  # tag: the text on the run's page
DECISIVE = ("fid", "fd", "bits_per_dim")  # scores at the top of a run's page
# params sections; the last word is a short tag for grouping and filtering runs
VARIANTS = ("diffusion.schedule", "diffusion.parameterization", "diffusion.variance", "diffusion.loss", "model",
            "sample.sampler")  # fmt: skip
# tag -> the key of metrics/fingerprint.json
FINGERPRINTS = {
    "ddpm.fingerprint": "hash",
    "ddpm.fingerprint_without_sampling": "hash_without_sampling",
    "ddpm.sampling_precision": "comparable.sampling.precision",
    "ddpm.training_precision": "environment.training_precision",
    "ddpm.processor": "environment.processor",
}
CODE = "ddpm.code"  # tag: ``inputs.code`` of the stages that make and score a model


class Point(NamedTuple):
    """A row of the curve: ``milliseconds`` of training so far, and column -> value."""

    step: int
    milliseconds: int
    values: dict[str, float]

    @classmethod
    def of(cls, row: Mapping[str, float | str]) -> Self:
        """From a row of loss.csv, or from the live row before it is written.

        The file keeps six digits. Both are rounded to them, so that a row sent live equals the one read later.
        """
        rounded = {key: float(f"{float(value):.6g}") for key, value in row.items() if key != "step"}
        milliseconds = round(1000 * rounded.pop("seconds"))
        return cls(int(row["step"]), milliseconds, rounded)


@dataclass(frozen=True)
class Record:
    """The content of a run; empty if stages have not made it yet.

    curve: in order of step. learned: images seen -> scores, of a training with snapshots. grids: step -> picture.
    artifacts: files for people to look at.
    """

    key: str
    params: dict[str, str]
    dataset: Manifest
    facts: dict[str, str]
    scores: dict[str, float]
    curve: list[Point]
    learned: dict[int, dict[str, float]]
    grids: dict[int, Path]
    artifacts: list[Path]

    def name(self, tags: Mapping[str, str]) -> str:
        """A short name, for legends and above pictures. tags: from ``environment()``."""
        own = [self.facts[fact] for fact in ("schedule", "parameterization", "seed", "dataset")]
        return "{} · {} · seed {} · {} · {}".format(*own, tags.get(EXPERIMENT, self.key[:7]))

    def note(self, tags: Mapping[str, str]) -> str:
        """Markdown for the run's page: the decisive scores, and how to reproduce them."""
        known = {name.rpartition(".")[2]: name for name in self.scores if name.count(".") < 2}
        scores = [f"{known[name]} **{self.scores[known[name]]:.4g}**" for name in DECISIVE if name in known]
        lines = [" · ".join(scores)] if scores else []
        commands = {"git checkout": tags.get("mlflow.source.git.commit"), "dvc exp apply": tags.get(EXPERIMENT)}
        made = [f"`{command} {of}`" for command, of in commands.items() if of]
        lines.append("Reproduce: " + " && ".join([*made, "`dvc repro`"]))
        if tags.get("ddpm.git.dirty") == "true" and not commands["dvc exp apply"]:
            lines.append("The code or params differed from that commit: set them to this run's parameters first.")
        return "\n\n".join(lines)


def read(upto: str | None, settings: dict[str, Any]) -> Record:
    """The content of the run after the stage ``upto``; None: before train.

    settings: the plain values of params.yaml. Raises UserError if a file of these stages is missing or unreadable.
    """
    chosen = config.check(settings)
    params = {name: masked(_text(value)) for name, value in chosen.flat().items()}
    facts = {key.rpartition(".")[2]: params[f"{key}.name"] for key in VARIANTS}
    facts |= {"seed": params["seed"], "dataset": called(chosen.data, PROCESSED)}
    done = STAGES[: STAGES.index(upto) + 1] if upto else ()
    credit.check(chosen, credit.recorded(done))
    scores: dict[str, float] = {}
    for stage in done:
        # evaluate.json is nested by extractor; the others get their stage's name, because both have images/s
        measured = files.read_json(METRICS / f"{stage}.json")
        for name, value in files.flatten(measured if stage == "evaluate" else {stage: measured}).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                scores[name] = float(value)
            else:
                facts[name] = masked(_text(value))
    learned: dict[int, dict[str, float]] = {}
    if "evaluate" in done:
        learned = by_images(CURVE.read_bytes()) if CURVE.exists() else {}
        found = files.flatten(files.read_json(FINGERPRINT))
        facts |= {tag: str(found[key]) for tag, key in FINGERPRINTS.items() if key in found}
    made = inputs.read(*KEYED, params=settings, leave_out=DERIVED)
    facts[CODE] = json.dumps(inputs.code((path, files.md5(Path(path))) for path in made.files), sort_keys=True)
    return Record(
        key=made.fingerprint(),
        params=params,
        dataset=read_manifest(PROCESSED),
        facts=facts,
        scores=scores,
        curve=_curve(LOSS) if done else [],
        learned=learned if len(learned) > 1 else {},
        grids={int(path.stem.removeprefix("step-")): path for path in GRIDS.glob("step-[0-9]*.png")} if done else {},
        artifacts=[path for stage in done for path in map(Path, PICTURES[stage]) if path.exists()],
    )


def by_images(text: bytes) -> dict[int, dict[str, float]]:
    """metrics/curve.csv: images seen -> name -> score, without those that are empty. Raises UserError."""
    found: dict[int, dict[str, float]] = {}
    try:
        for row in csv.DictReader(text.decode().splitlines(), strict=True):
            images = int(row.pop("images"))
            found[images] = {name: float(score) for name, score in row.items() if score}
            if any(not math.isfinite(score) for score in found[images].values()):
                raise ValueError(f"not a number after {images} images")
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{CURVE}: not scores by images seen ({error})") from error
    return found


def finished() -> str | None:
    """The last of train, sample and evaluate that DVC finds up to date with all stages before it; None if train is not.

    Raises UserError outside a DVC repository.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            done = takewhile(lambda stage: repo.status([stage], with_deps=True).keys() <= {inputs.CHECK}, STAGES)
            return max(done, key=STAGES.index, default=None)
    except DvcException as error:
        raise UserError(f"dvc status: {error}; `ddpm check` says what to do") from error


def environment() -> dict[str, str]:
    """Tags for the commit, the DVC experiment and the software; no value contains a credential."""
    tags = {f"version.{name}": version(name) for name in ("torch", "torchvision", "torch-fidelity", "dvc", "mlflow")}
    tags["version.python"] = platform.python_version()
    if commit := _git("rev-parse", "HEAD"):
        changed = _git("status", "--porcelain", "--", "params.yaml", "dvc.yaml", "ddpm", "stages")
        tags |= {"mlflow.source.git.commit": commit, "ddpm.git.dirty": "true" if changed else "false"}
    tags |= {EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV", "")}
    tags["mlflow.source.git.repoURL"] = masked(_git("remote", "get-url", "origin"))
    return {tag: text for tag, text in tags.items() if text}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _curve(path: Path) -> list[Point]:
    try:
        with path.open(newline="") as file:
            return [Point.of(row) for row in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a loss curve ({error}); remove it and run `dvc repro`") from error


def _git(*arguments: str) -> str:
    """git's output; empty outside a repository, before the first commit, or if git is not installed."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
