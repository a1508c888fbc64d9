"""Every run in one table: what differs in it, how it scored, and its state.

It is a list, not a comparison: one seed is not a verdict, and scores of different fingerprints stand next to each
other. A thousand runs of DVC are read in seconds, because only what is shown is read from each file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self

from tabulate import tabulate

from ddpm.base.errors import UserError, printable
from ddpm.base.files import flatten
from ddpm.compare import metrics, runs, snapshots
from ddpm.compare.snapshots import EVALUATE, PARAMS, Snapshot, Unfinished
from ddpm.params import config, file
from ddpm.params.config import Config

State = Literal["scored", "stale", "unscored"] | Unfinished

NAME_SHARE = 5  # a name gets a fifth of the width at most
VARIANT_WIDTH = 16  # at least
MORE = "…"
# metric in the table besides the headlines -> its column's head
HEADS = {"class_accuracy": "accuracy", "bits_per_dim": "bits/dim", "bits_per_dim_ode": "bits/dim ODE"}


class Listed(NamedTuple):
    """A row of the table. source: dvc | workspace | mlflow.

    variant: the params keys in which it differs from params.yaml, or from the commit that the experiment started from,
    with its values, without the seed and keys that do not change results. scores: the judged ones; none if they are
    another configuration's, and then ``why`` says so. seconds: of training and sampling. when: since the epoch.
    """

    name: str
    source: str
    state: State
    seed: int | None
    variant: dict[str, str]
    scores: dict[str, float]
    seconds: float | None
    fingerprint: str | None
    when: float
    why: str | None = None


class _Params(NamedTuple):
    """Params as one flat mapping: with all defaults, and only what differs from them."""

    complete: dict[str, Any]
    changed: dict[str, Any]

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Self:
        """For plain values; those that this version refuses are taken as they are."""
        try:
            return cls.checked(config.check(dict(params)))
        except UserError:
            flat = flatten(_chosen(params))
            return cls(flat, flat)

    @classmethod
    def checked(cls, params: Config) -> Self:
        return cls(params.flat(), params.flat(defaults=False))

    def variant(self, *others: Self) -> dict[str, str]:
        """The keys whose values differ from those of any other: choices by name first, hyperparameters of another
        variant last."""
        shown: dict[str, tuple[bool, bool]] = {}
        for other in others:
            keys = {key for key in self.complete if self.complete[key] != other.complete.get(key, self.complete[key])}
            keys |= self.changed.keys() - other.complete.keys()
            # a section, such as train.posthoc, that only the other has; not the hyperparameters of the other's variant
            keys |= {key for key in other.changed.keys() - self.complete.keys() if not _is_hyperparameter(key, other)}
            shown |= {key: (key not in other.complete, not key.endswith(".name")) for key in keys}
        unlike = [key for key in shown if not runs.is_in(key, (*runs.MECHANICAL, runs.SEED))]
        return {key: _text(self.complete.get(key)) for key in sorted(unlike, key=lambda key: (shown[key], key))}


def gather(working: Config) -> list[Listed]:
    """All of DVC's experiments, oldest first, then the working folder if it has
    scores. Raises UserError outside a repository."""
    here = _Params.checked(working)
    listed = [_of_snapshot(snapshot, here) for snapshot in snapshots.experiments()]
    names = {run.name for run in listed}
    waiting = [(state, snapshot) for state, snapshot in snapshots.unfinished() if snapshot.name not in names]
    listed += [_of_snapshot(snapshot, here, state) for state, snapshot in waiting]
    workspace = snapshots.workspace()
    last = [_of_snapshot(workspace, here)] if EVALUATE in workspace.files else []
    return [*sorted(listed, key=lambda run: run.when), *last]


def _of_snapshot(snapshot: Snapshot, here: _Params, state: Unfinished | None = None) -> Listed:
    files = snapshot.files
    run = Listed(snapshot.name, snapshot.source, state or "unscored", None, {}, {}, None, None, snapshot.when)
    try:
        params = _read(files.get(PARAMS, b""))
    except UserError as error:
        return run._replace(why=str(error))
    others = [here]
    if snapshot.base:
        with suppress(UserError):  # it started from a commit with params that can't be read
            others.append(_flat(snapshot.base))
    flat = _Params.of(params)
    seed = flat.complete.get(runs.SEED)
    run = run._replace(seed=seed if isinstance(seed, int) else None, variant=flat.variant(*others))
    if EVALUATE not in files:
        return run
    if why := snapshots.why_stale(files, params):
        return run._replace(state="stale", why=why)
    try:
        scores, fingerprint, numbers = runs.recorded(files)
    except UserError as error:
        return run._replace(why=f"its files can't be read: {error}")
    hashed = str(fingerprint.get("hash"))
    return run._replace(state="scored", scores=_judged(scores), seconds=_seconds(numbers), fingerprint=hashed)


def _read(text: bytes) -> dict[str, Any]:
    return file.decode(text.decode(errors="replace"), PARAMS, runs.in_parts)


@lru_cache(maxsize=2**7)  # many experiments start from one commit
def _flat(text: bytes) -> _Params:
    return _Params.of(_read(text))


def _seconds(numbers: Mapping[str, Any]) -> float | None:
    found = [numbers.get(name) for name in ("train.seconds", "sample.seconds")]
    return sum(seconds for seconds in found if isinstance(seconds, int | float) and math.isfinite(seconds)) or None


def _judged(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: scores[name] for name in metrics.judged(scores) if math.isfinite(scores[name])}


def _chosen(section: Mapping[str, Any]) -> dict[str, Any]:
    """The section without the blocks of variants that are not chosen."""
    name = section.get("name")
    kept = {key: value for key, value in section.items() if not (name and isinstance(value, dict) and key != name)}
    return {key: _chosen(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _is_hyperparameter(key: str, of: _Params) -> bool:
    """Whether the key is in the block of a variant, such as ``diffusion.schedule.linear.beta_end``."""
    parts = key.split(".")
    return any(f"{'.'.join(parts[:end])}.name" in of.complete for end in range(1, len(parts) - 1))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def table(listed: Sequence[Listed], width: int) -> str:
    """The runs in at most ``width`` columns of text, if the names allow it, and a last line that counts them. What few
    runs have comes first in a row: it tells them apart, and what comes last may be cut off."""
    if not listed:
        return "no runs yet: `dvc repro` makes one"
    seen = {name for run in listed for name in run.scores} | {"bits_per_dim"}
    names = [name for name in metrics.in_order(seen) if metrics.is_headline(name) or metrics.kind(name) in HEADS]
    kinds = [metrics.kind(name) for name in names]
    shown = [HEADS.get(kind, kind) if kinds.count(kind) == 1 else name for name, kind in zip(names, kinds, strict=True)]
    heads = ["name", "variant", "seed", *shown, "seconds", "state"]
    runs_with = Counter(item for run in listed for item in run.variant.items())
    rows = []
    for run in listed:
        scores = [_number(run.scores.get(name)) for name in names]
        rarest_first = sorted(run.variant.items(), key=runs_with.__getitem__)
        variant = " ".join(f"{label(key)}={value}" for key, value in rarest_first) or "-"
        seconds = "-" if run.seconds is None else f"{run.seconds:.0f}"
        name = _cut(printable(run.name), width // NAME_SHARE)
        rows.append([name, printable(variant), _number(run.seed), *scores, seconds, run.state])
    alignment = ["left", "left", *["right"] * (len(heads) - 3), "left"]

    def lines() -> list[str]:
        return tabulate([heads, *rows], tablefmt="plain", colalign=alignment, disable_numparse=True).splitlines()

    if (excess := max(map(len, lines())) - width) > 0:
        room = max(len(row[1]) for row in rows) - excess
        for row in rows:
            row[1] = _cut(row[1], max(room, VARIANT_WIDTH))
    states = ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in listed).items())
    scored = len({run.fingerprint for run in listed if run.state == "scored"})
    mixed = f"; {scored} fingerprints: compare only scores of the same one" if scored > 1 else ""
    return "\n".join([*lines(), "", f"{len(listed)} run{'s' * (len(listed) != 1)}: {states}{mixed}"])


def label(key: str) -> str:
    """``schedule`` for ``diffusion.schedule.name``; for other keys the last two words."""
    section, _, name = key.rpartition(".")
    return section.rpartition(".")[2] if name == "name" else ".".join(key.split(".")[-2:])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + MORE
