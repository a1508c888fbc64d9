"""Every run in one table: what differs in it, how it scored, and in which state it is.

It is a list, not a comparison: one seed is no verdict, and scores of different fingerprints stand side by side. A
thousand runs are read in seconds, so of each file only what is shown.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import yaml

from ddpm.base.errors import UserError, printable
from ddpm.base.files import flatten
from ddpm.compare import block_yaml, metrics, runs, snapshots
from ddpm.compare.runs import MECHANICAL, PARAMS, SEED
from ddpm.compare.snapshots import EVALUATE, FINGERPRINT, SAMPLE, TRAIN, Snapshot, Unfinished
from ddpm.params import file
from ddpm.params.config import Config
from ddpm.params.inputs import spelled
from ddpm.tracking import tracker

State = Literal["scored", "stale", "unscored"] | Unfinished

NAME_SHARE = 5  # a name has a fifth of the width at most
VARIANT_WIDTH = 16  # at least
MORE = "…"


class Row(NamedTuple):
    """A run. source: dvc | workspace | mlflow. variant: the params keys in which it
    differs from params.yaml, less the seed and what does not change results, with its values. scores: the judged ones;
    none where they are another configuration's, then ``why`` says so. seconds: of training and sampling. when: since
    the epoch."""

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


def gather(working: Config, mlflow: bool = False) -> list[Row]:
    """All of DVC's experiments, oldest first, then the working folder where it has scores; with ``mlflow`` also the
    runs that MLflow alone has. Raises UserError outside a repository."""
    here = {key: spelled(value) for key, value in runs.plain_params(working).items()}
    rows = [_of_snapshot(snapshot, here) for snapshot in snapshots.experiments()]
    names = {row.name for row in rows}
    waiting = [(state, snapshot) for state, snapshot in snapshots.unfinished() if snapshot.name not in names]
    rows += [_of_snapshot(snapshot, here, state) for state, snapshot in waiting]
    workspace = snapshots.workspace()
    scored = [_of_snapshot(workspace, here)] if EVALUATE in workspace.files else []
    if mlflow:
        known = {_identity(row) for row in (*rows, *scored)}
        logged = [_of_logged(run, here) for run in tracker.logged() if run.tags.get("dvc.exp.name") not in names]
        rows += [row for row in logged if _identity(row) not in known]
    return [*sorted(rows, key=lambda row: row.when), *scored]


def _of_snapshot(snapshot: Snapshot, here: Mapping[str, Any], state: Unfinished | None = None) -> Row:
    files = snapshot.files
    text = files.get(PARAMS, b"").decode(errors="replace")
    try:
        params = block_yaml.read(text)
    except (yaml.YAMLError, RecursionError, ValueError):
        params = None
    if not isinstance(params, dict):
        return Row(snapshot.name, snapshot.source, state or "unscored", None, {}, {}, None, None, snapshot.when,
                   f"its {PARAMS} can't be read")  # fmt: skip
    flat = flatten(_chosen(params))
    seed, variant = _whole(flat.get(SEED)), _variant(flat, here)
    row = Row(snapshot.name, snapshot.source, state or "unscored", seed, variant, {}, None, None, snapshot.when)
    if EVALUATE not in files:
        return row
    why = snapshots.why_stale(files, params)
    try:
        # words of YAML 1.2 that have several spellings, such as True, are one only to its reader, which is slow
        if why and (why := snapshots.why_stale(files, file.decode(text, PARAMS))):
            return row._replace(state="stale", why=why)
        scores, fingerprint, train, sample = (
            _mapping(files.get(path, b"{}")) for path in (EVALUATE, FINGERPRINT, TRAIN, SAMPLE)
        )
    except (UserError, RecursionError, ValueError) as error:
        return row._replace(why=f"its files can't be read: {error}")
    seconds = [float(part["seconds"]) for part in (train, sample) if isinstance(part.get("seconds"), int | float)]
    return row._replace(
        state="scored",
        scores=_judged(flatten(scores)),
        seconds=sum(seconds) if seconds else None,
        fingerprint=str(fingerprint.get("hash")),
    )


def _of_logged(run: tracker.Logged, here: Mapping[str, Any]) -> Row:
    scores = _judged(run.metrics)
    seconds = [run.metrics[name] for name in ("train.seconds", "sample.seconds") if name in run.metrics]
    variant = _variant(run.params, here)
    return Row(run.name, "mlflow", "scored" if scores else "unscored", _whole(run.params.get(SEED)), variant, scores,
               sum(seconds) if seconds else None, run.tags.get("ddpm.fingerprint"), run.started)  # fmt: skip


def _whole(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and text.isdecimal() else None


def _identity(row: Row) -> tuple[int | None, str | None, frozenset[tuple[str, float]]]:
    return row.seed, row.fingerprint, frozenset(row.scores.items())


def _mapping(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("no mapping")
    return found


def _judged(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(scores[name]) for name in metrics.judged(scores) if isinstance(scores[name], int | float)}


def _chosen(section: Mapping[str, Any]) -> dict[str, Any]:
    """Less the blocks of variants that are not chosen."""
    name = section.get("name")
    kept = {key: value for key, value in section.items() if not (name and isinstance(value, dict) and key != name)}
    return {key: _chosen(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _variant(flat: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, str]:
    """The keys with other values: what was chosen by name first, hyperparameters of another variant last."""
    differing = [key for key, value in flat.items() if key not in here or spelled(value) != here[key]]
    shown = [key for key in differing if not runs.is_in(key, (*MECHANICAL, SEED))]
    ordered = sorted(shown, key=lambda key: (key not in here, not key.endswith(".name")))
    return {key: _text(flat[key]) for key in ordered}


def _text(value: Any) -> str:
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list) else str(value)


def table(rows: Sequence[Row], width: int) -> str:
    """``rows`` in at most ``width`` columns of text, as far as names allow, and a last line that counts them."""
    if not rows:
        return "no runs yet: `dvc repro` makes one"
    seen = dict.fromkeys(name for row in rows for name in row.scores)
    headlines = [name for name in metrics.in_order(seen) if metrics.is_headline(name)]
    single = len(set(map(metrics.kind, headlines))) == len(headlines)
    head = [metrics.kind(name) if single else name for name in headlines]
    cells = [["name", "variant", "seed", *head, "bits/dim", "seconds", "state"]]
    for row in rows:
        scores = [_number(row.scores.get(name)) for name in (*headlines, "bits_per_dim")]
        seconds = "-" if row.seconds is None else f"{row.seconds:.0f}"
        name = _cut(printable(row.name), width // NAME_SHARE)
        cells.append([name, printable(_differences(row.variant)), _number(row.seed), *scores, seconds, row.state])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    room = width - sum(widths) + widths[1] - 2 * (len(widths) - 1)
    widths[1] = min(widths[1], max(room, VARIANT_WIDTH))
    lines = []
    for name, variant, *numbers, state in cells:
        left = [name.ljust(widths[0]), _cut(variant, widths[1]).ljust(widths[1])]
        right = [number.rjust(size) for number, size in zip(numbers, widths[2:-1], strict=True)]
        lines.append("  ".join([*left, *right, state]))
    return "\n".join([*lines, "", _sum(rows)])


def _sum(rows: Iterable[Row]) -> str:
    rows = list(rows)
    states = ", ".join(f"{count} {state}" for state, count in Counter(row.state for row in rows).items())
    kinds = len({row.fingerprint for row in rows if row.state == "scored"})
    mixed = f"; {kinds} fingerprints: scores of one alone may be compared" if kinds > 1 else ""
    return f"{len(rows)} run{'s' * (len(rows) != 1)}: {states}{mixed}"


def _differences(variant: Mapping[str, str]) -> str:
    return " ".join(f"{_label(key)}={value}" for key, value in variant.items()) or "-"


def _label(key: str) -> str:
    """``diffusion.schedule.name`` is the schedule; of other keys the last two words."""
    section, _, name = key.rpartition(".")
    return section.rpartition(".")[2] if name == "name" else ".".join(key.split(".")[-2:])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + MORE
