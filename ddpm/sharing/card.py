"""The README.md of an exported model: what it is, how it scored, how to sample from it, what to mind.

Scores are those of the working folder, where its model is the exported one; elsewhere the card says that there are
none. templates/card.md has its words; the front matter is the Hugging Face Hub's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np

from ddpm.base.errors import UserError
from ddpm.base.files import flatten, read_json, sha256
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED
from ddpm.compare import metrics, runs, statistics
from ddpm.compare.runs import Result
from ddpm.data.processed import called, read_manifest
from ddpm.model.file import Loaded
from ddpm.params import config
from ddpm.params.config import Config


class Evidence(NamedTuple):
    """run: of the exported model itself; seeds: the runs of the same params and fingerprint, it included."""

    settings: Config
    run: Result
    seeds: Sequence[Result]


def write(source: Path, model: Loaded, folder: str, form: str) -> str:
    """The card as Markdown. source: the model file; folder: the name that the export will have; form: its format."""
    try:
        known, reason = evidence(source, model), ""
    except UserError as error:
        known, reason = None, str(error)
    T = model.config.diffusion.T
    environment = jinja2.Environment(  # noqa: S701 - Markdown, in which nothing is escaped
        loader=jinja2.PackageLoader("ddpm.sharing", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["spec"] = _spec
    return environment.get_template("card.md").render(
        form=form,
        folder=folder,
        channels=model.config.data.channels,
        size=model.config.data.image_size,
        T=T,
        steps=max(steps for steps in range(1, min(T, 50) + 1) if T % steps == 0),
        facts=[*_facts(model, known), ("sha256 of model.safetensors", f"`{sha256(source)}`")],
        known=known,
        data=called(known.settings.data, PROCESSED) if known else "",
        reason=reason,
        scores=_scores(known) if known else [],
        closeness=metrics.closeness(known.run.scores) if known else [],
    )


def evidence(source: Path, model: Loaded) -> Evidence:
    """What the working folder knows of the model. Raises UserError that says why that is nothing."""
    settings = config.load()
    if settings.training().to_dict() != model.written:
        raise UserError("params.yaml is another model's")
    if not MODEL_FILE.exists() or sha256(MODEL_FILE) != sha256(source):
        raise UserError(f"{MODEL_FILE} is another model")
    own = runs.at_revision("workspace")
    try:
        alike = runs.matching(runs.gather().results, settings).results
    except UserError:
        alike = ()  # no repository of experiments: there is the one run
    seeds = [run for run in alike if run.fingerprint == own.fingerprint and run.seed != own.seed]
    return Evidence(settings, own, sorted([own, *seeds], key=lambda run: run.seed))


def _facts(model: Loaded, known: Evidence | None) -> Iterator[tuple[str, str]]:
    diffusion = model.config.diffusion
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    yield "images", " x ".join(map(str, model.image_shape))
    yield "network", f"{model.config.model.name}, {parameters:,} parameters"
    yield "forward process", f"{_spec(diffusion.schedule)}, T = {diffusion.T:,}"
    yield "network predicts", _spec(diffusion.parameterization)
    yield "reverse variance", _spec(diffusion.variance)
    if "imported" in model.facts:
        yield "training", "not known: the model was imported"
        return
    yield "loss", _spec(diffusion.loss)
    steps = model.facts.get("steps", "an unknown number of")
    batch_size = model.written["train"]["batch_size"]
    yield "training", f"{steps} steps of {batch_size} images, seed {model.config.seed}"
    if known:
        cost = flatten(read_json(METRICS / "train.json"))
        yield "training took", f"{cost.get('seconds', 'unknown')} s on {cost.get('device', 'an unknown device')}"
        if PROCESSED.exists():
            manifest = read_manifest(PROCESSED)
            yield "data", f"{called(known.settings.data, PROCESSED)}: {manifest.counted()} images"
            yield "sha256 of the train images", f"`{manifest.sha256['train']}`"


def _scores(known: Evidence) -> list[list[str]]:
    """The rows of a table, its head first."""
    own, seeds = known.run.scores, known.seeds
    names = metrics.judged(set.intersection(*(set(run.scores) for run in seeds)))
    errors = [f" ± {own[f'{name}_se']:.2g}" if f"{name}_se" in own else "" for name in names]
    rows = [["score", "better", "this model"], ["---"] * 3]
    rows += [[name, metrics.direction(name), f"{own[name]:.4g}{se}"] for name, se in zip(names, errors, strict=True)]
    if len(seeds) > 1 and names:
        level = known.settings.compare.confidence
        rows[0] += [f"mean of {len(seeds)} training seeds", f"{level:.0%} interval of that mean"]
        rows[1] += ["---"] * 2
        found = statistics.evidence(np.array([[run.scores[name] for run in seeds] for name in names]), 0.0, level)
        for row, mean, low, high in zip(rows[2:], found.mean, found.low, found.high, strict=True):
            row += [f"{mean:.4g}", f"{low:.4g} to {high:.4g}"]
    return rows


def _spec(variant: Any) -> str:
    """A variant's name, with its hyperparameters where it has some."""
    spec = json.loads(variant.model_dump_json())
    fields = ", ".join(f"{key} {value}" for key, value in spec.get(spec["name"], {}).items())
    return f"{spec['name']} ({fields})" if fields else spec["name"]
