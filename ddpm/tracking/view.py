"""A run's record as MLflow shows it: params, tags, metrics and pictures. Nothing here imports MLflow."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pygit2

from ddpm.base import files
from ddpm.base.errors import UserError, mask_secrets
from ddpm.referee.guards import COPIES
from ddpm.referee.metrics import find_copies
from ddpm.runs import library
from ddpm.runs.record import Record
from ddpm.sources.dataset import name_images

COMMIT, DIRTY = "mlflow.source.git.commit", "ddpm.git.dirty"
EXPERIMENT, BASELINE = "dvc.exp.name", "dvc.exp.baseline"  # of a DVC experiment
# params that also become short tags, to group and filter runs by; the tag's name is the last word of the section
VARIANTS = ("diffusion.schedule", "diffusion.parameterization", "diffusion.variance", "diffusion.loss", "model",
            "sample.sampler")  # fmt: skip
DATASET, SOURCE = "data.dataset.name", "data.source"
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


def loss_point(row: Mapping[str, float | str]) -> tuple[int, int, dict[str, float]]:
    """The step, the milliseconds of training so far, and the values by column of a row of loss.csv, or of the live row
    before it is written. Both are rounded to the file's six digits, so that a row sent live equals the one read
    later."""
    values = {key: float(f"{float(value):.6g}") for key, value in row.items() if key != "step"}
    return int(row["step"]), round(1000 * values.pop("seconds")), values


def texts(flat: Mapping[str, Any]) -> dict[str, str]:
    """Params as text without passwords."""
    return {name: mask_secrets(value if isinstance(value, str) else json.dumps(value)) for name, value in flat.items()}


def tags(flat: Mapping[str, Any]) -> dict[str, str]:
    """Tags to group runs by: variants, seed and dataset, with the name of its ``data.source`` if one is given."""
    short = {section.rpartition(".")[2]: flat.get(f"{section}.name") for section in VARIANTS}
    dataset = flat.get(DATASET)
    short |= {"seed": flat.get("seed"), "dataset": dataset and name_images(dataset, flat.get(SOURCE))}
    return {tag: str(value) for tag, value in short.items() if value is not None}


def name(flat: Mapping[str, Any], last: str, program: str | None = None) -> str:
    """A short name for legends and tables, which cut off its end: the program, or what most runs differ in; the seed,
    the dataset, and ``last``, which distinguishes runs with the same params."""
    known = tags(flat)
    method = " ".join(known[tag] for tag in ("schedule", "parameterization", "loss", "model") if tag in known)
    seed = f"seed {known['seed']}" if "seed" in known else ""
    return " · ".join(filter(None, [program or method, seed, known.get("dataset"), last]))


def result_tags(run: Record) -> dict[str, str]:
    """The tags of a scored run. Its page shows them above its scores, so of its environment there are only those that
    a comparison asks for."""
    environment = {f"environment.{key}": str(run.environment[key]) for key in ENVIRONMENT if key in run.environment}
    return {**environment, **tags({"seed": run.seed} | run.params), "ddpm.fingerprint": run.fingerprint.hash}


def metrics(run: Record) -> Iterator[tuple[str, float, int]]:
    """Yield name, value and step of each metric. The step is the number of images seen, so snapshots' scores are the
    history of the final one."""
    end = run.costs.images_seen or 0
    costs = files.flatten({"costs": run.costs.model_dump(exclude_none=True)})
    for images, row in (run.scores_by_images | {end: run.scores | costs}).items():
        yield from ((name, score, images) for name, score in row.items())


def note(run: Record, tags: Mapping[str, str]) -> str:
    """Markdown for the run's page: the decisive scores, whether it copies, and the commands that reproduce it."""
    known = {name.rpartition(".")[2]: name for name in run.scores if name.count(".") < 2}
    scores = [f"{known[name]} **{run.scores[known[name]]:.4g}**" for name in DECISIVE if name in known]
    lines = [" · ".join(scores)] if scores else []
    if spaces := find_copies(run.scores):
        lines.append(f"**It {COPIES}** ({', '.join(spaces)}): its scores show how well it copies.")
    commands = {"git checkout": tags.get(COMMIT), "dvc exp apply": tags.get(EXPERIMENT)}
    if steps := [f"`{command} {of}`" for command, of in commands.items() if of]:
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
