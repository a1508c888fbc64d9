"""A run's record as MLflow shows it: params, tags, metrics and pictures. Nothing here imports MLflow."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import pygit2

from ddpm.base import files
from ddpm.base.errors import UserError, mask_secrets
from ddpm.base.paths import LOSS
from ddpm.params import presets
from ddpm.referee.guards import COPIES
from ddpm.referee.metrics import find_copies
from ddpm.runs import alike, library
from ddpm.runs.record import Record
from ddpm.sources.dataset import name_images

COMMIT, DIRTY = "mlflow.source.git.commit", "ddpm.git.dirty"
EXPERIMENT, BASELINE = "dvc.exp.name", "dvc.exp.baseline"  # of a DVC experiment
# params that also become short tags, to group and filter runs by; the tag's name is the last word of the section
VARIANTS = ("diffusion.schedule", "diffusion.parameterization", "diffusion.variance", "diffusion.loss", "model",
            "sample.sampler")  # fmt: skip
# params that are always logged, to filter runs by
SOUGHT = ("seed", "data.dataset.name", "train.steps", "train.batch_size", "train.learning_rate", "train.optimizer.name",
          "sample.count", "sample.steps", *(f"{name}.name" for name in VARIANTS))  # fmt: skip
DATASET, SOURCE = "data.dataset.name", "data.source"
LONGEST_DIGEST = 36  # MLflow's limit for a dataset's digest
ENVIRONMENT = ("processor", "training_precision", "torch")
DECISIVE = ("fid", "fd", "bits_per_dim")  # scores that a run's page shows first
ARTIFACTS = (
    "data/processed/dataset.png",
    "data/samples/grid.png",
    "data/samples/forward.png",
    "data/samples/reverse.mp4",
    "data/evaluation/nearest.png",
    *(f"metrics/{name}" for name in ("run.json", "scores.csv", "curve.csv", "fd_n.csv", "likelihood.csv")),
)


class LossPoint(NamedTuple):
    """A row of the loss curve."""

    step: int
    milliseconds: int  # of training so far
    values: dict[str, float]  # by column

    @classmethod
    def of(cls, row: Mapping[str, float | str]) -> Self:
        """Make a point from a row of loss.csv, or from the live row before it is written.

        Both are rounded to the file's six digits, so that a row sent live equals the one read later.
        """
        rounded = {key: float(f"{float(value):.6g}") for key, value in row.items() if key != "step"}
        milliseconds = round(1000 * rounded.pop("seconds"))
        return cls(int(row["step"]), milliseconds, rounded)


def loss_curve() -> list[LossPoint]:
    """The rows of metrics/loss.csv."""
    with LOSS.open(newline="", encoding="utf-8") as file:
        return [LossPoint.of(row) for row in csv.DictReader(file)]


def params(flat: Mapping[str, Any]) -> dict[str, str]:
    """The params to log, as text without passwords: those that differ from the preset digits and from each variant's
    defaults, and those of ``SOUGHT``.

    MLflow's page for comparing runs shows every logged param, so constants would hide the differences. The record, an
    artifact, has them all.
    """
    return texts({name: value for name, value in flat.items() if name in SOUGHT or value != presets.default(name)})


def texts(flat: Mapping[str, Any]) -> dict[str, str]:
    """Params as text without passwords."""
    return {name: mask_secrets(value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()}


def tags(flat: Mapping[str, Any]) -> dict[str, str]:
    """Tags to group runs by: variants, seed and dataset, with the name of its ``data.source`` if one is given."""
    short = {section.rpartition(".")[2]: flat.get(f"{section}.name") for section in VARIANTS}
    dataset = flat.get(DATASET)
    short |= {"seed": flat.get("seed"), "dataset": dataset and name_images(dataset, flat.get(SOURCE))}
    return {tag: str(value) for tag, value in short.items() if value is not None}


def name(flat: Mapping[str, Any], last: str = "", program: str | None = None, title: str = "") -> str:
    """A short name for legends and tables, which cut off its end: a ``title`` or the seed, the differences from the
    nearest preset, the preset or the program, and ``last``, which distinguishes runs with the same params."""
    preset, keys = (program, []) if program else presets.nearest(flat)
    keys = [key for key in keys if key == SOURCE or alike.tells_apart(key)]
    changes = [_change(key, flat[key]) for key in sorted(keys, key=lambda key: not key.endswith(".name"))]
    seed = "" if title or flat.get("seed") is None else f"seed {flat['seed']}"
    parts = [alike.some(changes, 2), seed, preset] if changes else [preset, seed]
    return " · ".join(filter(None, [title, *parts, last]))


def _change(key: str, value: Any) -> str:
    """A short form of a param: ``linear``, ``train.steps 1000``."""
    if key.endswith(".name"):
        return str(value)
    short = ".".join(key.split(".")[-2:])
    return f"{short} {Path(mask_secrets(value)).stem if key == SOURCE and value else value}"


def result_tags(run: Record) -> dict[str, str]:
    """The tags of a scored run. Its page shows them above its scores, so of its environment there are only those that
    a comparison asks for."""
    environment = {f"environment.{key}": str(run.environment[key]) for key in ENVIRONMENT if key in run.environment}
    return {**environment, **tags({"seed": run.seed} | run.params), "ddpm.fingerprint": run.fingerprint.hash}


def metrics(run: Record) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step of each metric, the decisive scores first, because MLflow's page for comparing runs
    plots the first. The step is the number of images seen, so snapshots' scores are the history of the final one."""
    end = run.costs.images_seen or 0
    costs = files.flatten({"costs": run.costs.model_dump(exclude_none=True)})
    for images, row in (run.scores_by_images | {end: run.scores | costs}).items():
        decisive = sorted(row, key=lambda name: name.rpartition(".")[2] not in DECISIVE)
        yield from ((name, row[name], images) for name in decisive)


def data(run: Record) -> dict[str, str] | None:
    """The fields of MLflow's dataset for the training images; None if the record does not name them."""
    images, dataset, source = run.fingerprint.comparable.get("images"), run.params.get(DATASET), run.params.get(SOURCE)
    if not images or not dataset:
        return None
    return {
        "name": name_images(dataset, source),
        "digest": str(images["sha256"])[:LONGEST_DIGEST],
        "source_type": dataset,
        "source": json.dumps({"source": mask_secrets(str(source))}),
        "profile": json.dumps({key: images[key] for key in ("count", "channels", "size") if key in images}),
    }


def note(run: Record, tags: Mapping[str, str]) -> str:
    """Markdown for the run's page: the decisive scores, and the commands that reproduce them."""
    known = {name.rpartition(".")[2]: name for name in run.scores if name.count(".") < 2}
    scores = [f"{known[name]} **{run.scores[known[name]]:.4g}**" for name in DECISIVE if name in known]
    lines = [" · ".join(scores)] if scores else []
    if spaces := find_copies(run.scores):
        lines.append(f"**It {COPIES}** ({', '.join(spaces)}): its scores show how well it copies.")
    commands = {"git checkout": tags.get(COMMIT), "dvc exp apply": tags.get(EXPERIMENT)}
    steps = [f"`{command} {of}`" for command, of in commands.items() if of]
    if steps:
        lines.append("Reproduce: " + " && ".join([*steps, "`dvc repro`"]))
    if tags.get(DIRTY) == "true" and not commands["dvc exp apply"]:
        lines.append("The code or params differed from that commit: set them to this run's parameters first.")
    return "\n\n".join(lines)


def origin() -> dict[str, str]:
    """Tags for the commit and the DVC experiment; no value contains a password."""
    values = {EXPERIMENT: os.environ.get("DVC_EXP_NAME", ""), BASELINE: os.environ.get("DVC_EXP_BASELINE_REV", "")}
    with suppress(UserError, pygit2.GitError):  # no repository, or no commit
        git = library.repository()
        urls = {remote.name: remote.url or "" for remote in git.remotes}
        values["mlflow.source.git.repoURL"] = mask_secrets(urls.get("origin", ""))
        values[COMMIT] = str(git.head.target)
        values[DIRTY] = "true" if library.find_uncommitted(("params.yaml", "dvc.yaml", "ddpm", "stages")) else "false"
    return {tag: text for tag, text in values.items() if text}
