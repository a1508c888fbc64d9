"""Every run in one table: what differs in it, how it scored, and its state.

It is a list, not a comparison: one seed is not a verdict, and scores of different fingerprints stand next to each
other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from ddpm.base import variant
from ddpm.base.errors import masked, printable
from ddpm.params.config import FAMILIES, Config
from ddpm.report import render
from ddpm.report.blocks import Block, Chapter, Note, Table
from ddpm.runs import library
from ddpm.runs.alike import IGNORED, is_in
from ddpm.runs.library import WORKSPACE
from ddpm.runs.record import SEED, Record
from ddpm.verdicts import metrics

State: TypeAlias = Literal["scored", "stale"]

NAME_SHARE = 5  # a name gets a fifth of the width at most
DIFFERS_WIDTH = 16  # at least
MORE = "…"
# metric in the table besides the headlines -> its column's head
HEADS = {"class_accuracy": "accuracy", "bits_per_dim": "bits/dim"}


class Listed(NamedTuple):
    """A row of the table."""

    name: str
    state: State
    seed: int | None = None
    differs: Mapping[str, str] = {}  # the params that differ from params.yaml, choices by name first
    scores: Mapping[str, float] = {}  # the judged ones
    seconds: float | None = None  # of training and sampling
    fingerprint: str | None = None
    finished: str = ""  # ISO 8601, UTC
    why: str = ""  # it is stale


def gather(working: Config) -> tuple[list[Listed], tuple[str, ...]]:
    """All experiments of DVC, oldest first, then the working folder; and a note on each record that cannot be read.
    Raises UserError outside a repository."""
    here, listing = working.flat(), library.everywhere()
    finished = {run.name: _of(run, here) for run in listing.records}
    last = [finished.pop(WORKSPACE)] if WORKSPACE in finished else []
    return [*finished.values(), *last], listing.notes


def _of(run: Record, here: Mapping[str, Any]) -> Listed:
    keys = [key for key in run.params.keys() | here.keys() if not is_in(key, (*IGNORED, SEED))]
    unlike = [key for key in keys if _differs(key, run.params, here)]
    unlike.sort(key=lambda key: (not key.endswith(".name"), key))
    why = library.why_stale(run, here) if run.name == WORKSPACE else ""
    return Listed(
        run.name,
        "stale" if why else "scored",
        run.seed,
        {key: masked(_text(run.params.get(key))) for key in unlike},
        {name: run.scores[name] for name in metrics.judged(run.scores)},
        sum(run.costs.seconds.get(stage, 0.0) for stage in ("train", "sample")) or None,
        run.fingerprint.hash,
        run.finished.isoformat(),
        masked(why),
    )


def _differs(key: str, params: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether the values differ. A hyperparameter of a variant that one side does not use counts if it has another
    value than its default there; any other key that one side lacks is a section that is off."""
    if key in params and key in here:
        return bool(params[key] != here[key])
    section, name, field = ["", "", *key.rsplit(".", 2)][-3:]
    if (family := FAMILIES.get(section)) is None:
        return True
    if key in here or name not in variant.names(family):
        return key in params
    default = variant.variant_class(family, name).model_fields.get(field)
    return default is None or _text(default.default) != _text(params[key])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def shown(runs: Sequence[Listed], notes: Sequence[str], width: int) -> list[Block]:
    """The runs in at most ``width`` columns of text, if the names allow it, and a line that counts them. What few runs
    have comes first in a row: it tells them apart, and what comes last may be cut off."""
    if not runs:
        return [Note("no runs yet: `dvc repro` makes one"), *(Note(note, missing=True) for note in notes)]
    scored = {name for run in runs for name in run.scores} | {"bits_per_dim"}
    names = [name for name in metrics.in_order(scored) if metrics.is_headline(name) or metrics.kind(name) in HEADS]
    kinds = [metrics.kind(name) for name in names]
    heads = [HEADS.get(kind, kind) if kinds.count(kind) == 1 else name for name, kind in zip(names, kinds, strict=True)]
    columns = ["name", "differs", "seed", *heads, "seconds", "state"]
    frequency = Counter(item for run in runs for item in run.differs.items())
    rows = []
    for run in runs:
        rarest_first = sorted(run.differs.items(), key=frequency.__getitem__)
        differs = " ".join(f"{label(key)}={value}" for key, value in rarest_first) or "-"
        seconds = "-" if run.seconds is None else f"{run.seconds:.0f}"
        scores = [_number(run.scores.get(name)) for name in names]
        rows.append([_cut(printable(run.name), width // NAME_SHARE), printable(differs), _number(run.seed), *scores,
                     seconds, run.state])  # fmt: skip
    table = Table(columns, rows, text_columns=(0, 1, len(columns) - 1))
    if (excess := max(map(len, render.text([Chapter("", [table])]).splitlines())) - width) > 0:
        room = max(len(row[1]) for row in rows) - excess
        for row in rows:
            row[1] = _cut(row[1], max(room, DIFFERS_WIDTH))
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in runs).items())
    kinds_of_scores = len({run.fingerprint for run in runs if run.state == "scored"})
    mixed = f"; {kinds_of_scores} fingerprints: compare only scores of the same one" if kinds_of_scores > 1 else ""
    counts = Note(f"{len(runs)} run{'s' * (len(runs) != 1)}: {states}{mixed}")
    return [table, counts, *(Note(note, missing=True) for note in notes)]


def label(key: str) -> str:
    """``schedule`` for ``diffusion.schedule.name``; for other keys the last two words."""
    section, _, name = key.rpartition(".")
    return section.rpartition(".")[2] if name == "name" else ".".join(key.split(".")[-2:])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + MORE
