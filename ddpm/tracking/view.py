"""A run's record as MLflow shows it: params, tags, metrics and pictures. Nothing here knows MLflow."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from ddpm.base import files
from ddpm.base.errors import masked
from ddpm.base.paths import LOSS
from ddpm.runs.record import Record
from ddpm.tracking.origin import COMMIT, DIRTY, EXPERIMENT

# params whose values are short tags, to group and filter runs by: the last word of the section is the tag's name
VARIANTS = ("diffusion.schedule", "diffusion.parameterization", "diffusion.variance", "diffusion.loss", "model",
            "sample.sampler")  # fmt: skip
DECISIVE = ("fid", "fd", "bits_per_dim")  # scores at the top of a run's page
ARTIFACTS = (
    "data/processed/dataset.png",
    "data/samples/grid.png",
    "data/samples/forward.png",
    "data/samples/reverse.mp4",
    "data/evaluation/nearest.png",
    *(f"metrics/{name}" for name in ("run.json", "scores.csv", "curve.csv", "fd_n.csv", "likelihood.csv",
                                     "excess.csv")),
)  # fmt: skip


class LossPoint(NamedTuple):
    """A row of the loss curve: ``milliseconds`` of training so far, and column -> value."""

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


def loss_curve() -> list[LossPoint]:
    """The rows of metrics/loss.csv."""
    with LOSS.open(newline="") as file:
        return [LossPoint.of(row) for row in csv.DictReader(file)]


def key(run: Record) -> str:
    """The digest of a result: the same params, code, scores and fingerprint are one run. Of a program's run, params
    have neither what drew it nor its seed."""
    return files.digest([run.params, run.code, run.scores, run.fingerprint.hash, run.program, run.seed])


def params(flat: Mapping[str, Any]) -> dict[str, str]:
    """Params as text, without passwords."""
    return {name: masked(value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()}


def tags(flat: Mapping[str, Any]) -> dict[str, str]:
    """What runs are grouped by: variants, seed and dataset, with the name of its ``data.source`` if one is given."""
    short = {section.rpartition(".")[2]: flat.get(f"{section}.name") for section in VARIANTS}
    dataset, source = flat.get("data.dataset.name"), flat.get("data.source")
    short |= {"seed": flat.get("seed"), "dataset": f"{dataset} ({Path(masked(source)).stem})" if source else dataset}
    return {tag: str(value) for tag, value in short.items() if value is not None}


def name(tags: Mapping[str, str], last: str) -> str:
    """A short name, for legends and above pictures. last: what tells it from runs of the same params."""
    parts = [tags.get("schedule"), tags.get("parameterization"), f"seed {tags['seed']}", tags.get("dataset"), last]
    return " · ".join(part for part in parts if part)


def result_tags(run: Record) -> dict[str, str]:
    """The tags of a scored run."""
    environment = {f"environment.{key}": str(value) for key, value in run.environment.items()}
    return {**environment, **tags({"seed": run.seed} | run.params), "ddpm.fingerprint": run.fingerprint.hash}


def metrics(run: Record) -> Iterator[tuple[str, float, int]]:
    """Name, value and step of each metric. The step is the number of images seen, so that the scores of snapshots are
    the history of the final score."""
    end = run.costs.images_seen or 0
    costs = files.flatten({"costs": run.costs.model_dump(exclude_none=True)})
    for images, row in (run.learned | {end: costs | run.scores}).items():
        yield from ((name, value, images) for name, value in row.items())


def note(run: Record, tags: Mapping[str, str]) -> str:
    """Markdown for the run's page: the decisive scores, and how to reproduce them. tags: of the environment."""
    known = {name.rpartition(".")[2]: name for name in run.scores if name.count(".") < 2}
    scores = [f"{known[name]} **{run.scores[known[name]]:.4g}**" for name in DECISIVE if name in known]
    lines = [" · ".join(scores)] if scores else []
    commands = {"git checkout": tags.get(COMMIT), "dvc exp apply": tags.get(EXPERIMENT)}
    steps = [f"`{command} {of}`" for command, of in commands.items() if of]
    if steps:
        lines.append("Reproduce: " + " && ".join([*steps, "`dvc repro`"]))
    if tags.get(DIRTY) == "true" and not commands["dvc exp apply"]:
        lines.append("The code or params differed from that commit: set them to this run's parameters first.")
    return "\n\n".join(lines)
