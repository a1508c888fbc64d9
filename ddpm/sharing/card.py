"""The README.md of an exported model. card.md has its text; the front matter is for the Hugging Face Hub.

Scores, data and licence are known only if the working folder's model is the exported one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import torch
import yaml

from ddpm.base.errors import UserError
from ddpm.base.files import read_json, sha256
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED
from ddpm.data.processed import MANIFEST, called, read_manifest
from ddpm.model import averages
from ddpm.model.model_file import Loaded
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.runs import alike, library
from ddpm.runs.record import Record
from ddpm.sampling import classes
from ddpm.tracking import origin
from ddpm.verdicts import metrics, statistics


class Known(NamedTuple):
    """run: the exported model's own; seeds: the runs with the same params and fingerprint, including it."""

    config: Config
    run: Record
    seeds: list[Record]


def write(source: Path, model: Loaded, folder: str, form: str) -> str:
    """The card as Markdown. source: the model file; folder: the name of the export; form: its format."""
    try:
        facts, reason = known(source, model), ""
    except UserError as error:
        facts, reason = None, str(error)
    T = model.config.diffusion.T
    environment = jinja2.Environment(  # noqa: S701 - Markdown, in which nothing is escaped
        loader=jinja2.PackageLoader("ddpm.sharing", ""),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("card.md").render(
        model=model,
        form=form,
        folder=folder,
        sha256=sha256(source),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        classes=classes.known(model)[0],
        steps=max(steps for steps in range(1, min(T, 50) + 1) if T % steps == 0),
        params=yaml.safe_dump(model.written, sort_keys=False),
        known=facts,
        reason=reason,
        cost=read_json(METRICS / "train.json") if facts else {},
        data=called(facts.config.data, PROCESSED) if facts else "",
        images=read_manifest(PROCESSED) if facts and (PROCESSED / MANIFEST).exists() else None,
        scores=list(_scores(facts)) if facts else [],
        apart=_apart(facts) if facts else [],
        closeness=metrics.closeness(facts.run.scores) if facts else [],
        commit=origin.tags().get(origin.COMMIT) if facts else None,
    )


def known(source: Path, model: Loaded) -> Known:
    """What the working folder knows of the model. Raises UserError with the reason if it knows nothing."""
    checked = config.load()
    if checked.training().to_dict() != model.written:
        raise UserError("params.yaml is another model's")
    length = checked.sample.ema_length
    if not MODEL_FILE.exists() or (length is None and sha256(MODEL_FILE) != sha256(source)):
        raise UserError(f"{MODEL_FILE} is another model")
    if length is not None and not _same_weights(model, averages.load(MODEL_FILE, length, torch.device("cpu"))):
        raise UserError(f"its scores here are of the model that `ddpm ema --length {length:g}` writes")
    run = library.current(checked)
    try:
        runs = alike.matching(library.everywhere().records, checked).records
    except UserError:
        runs = ()  # no repository of experiments: there is only the one run
    same = [other for other in runs if other.fingerprint == run.fingerprint and other.seed != run.seed]
    return Known(checked, run, sorted([run, *same], key=lambda one: one.seed or 0))


def _same_weights(one: Loaded, other: Loaded) -> bool:
    ours, theirs = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def _apart(known: Known) -> list[str]:
    """The scores of real images and of the yardsticks at another number of images."""
    scores = known.run.scores
    return metrics.apart(scores, metrics.judged(scores), known.config.sample.count)


def _scores(known: Known) -> Iterator[tuple[str, ...]]:
    """Name, better direction, this model, real images, and mean (interval) over training seeds."""
    scores, level = known.run.scores, known.config.compare.confidence
    for name in metrics.judged(set.intersection(*(set(run.scores) for run in known.seeds))):
        error = f" ± {scores[f'{name}_se']:.2g}" if f"{name}_se" in scores else ""
        score, count = metrics.others(scores, name).get(metrics.OTHERS["real"], (0.0, 0))
        real = f"{score:.4g}" if count == known.config.sample.count else ""
        over = ""
        if len(known.seeds) > 1:
            interval = statistics.t_test(np.array([run.scores[name] for run in known.seeds]), 0.0, level)
            over = f"{interval.mean:.4g} ({interval.low:.4g} to {interval.high:.4g})"
        yield name, metrics.direction(name), f"{scores[name]:.4g}{error}", real, over
