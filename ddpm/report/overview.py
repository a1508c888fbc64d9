"""Every run in one table: what differs in it, how it scored, and its state.

It is a list, not a comparison: one seed is not a verdict, and scores of different fingerprints stand next to each
other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ddpm.base.errors import mask_secrets, plural
from ddpm.params.config import Config
from ddpm.referee import metrics
from ddpm.report.blocks import Block, Note, Table, cell, plain
from ddpm.runs import library
from ddpm.runs.alike import differences
from ddpm.runs.library import WORKSPACE
from ddpm.runs.record import Record

ALSO = ("class_accuracy", "bits_per_dim")  # metrics in the table besides the headlines


def gather(working: Config) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """All experiments of DVC, oldest first, then the working folder; and a note on each record that cannot be read.
    Raises UserError outside a repository.

    Of each run: its name, seed and fingerprint; ``differs``, the params that differ from params.yaml, choices by name
    first; the judged scores; the seconds of training and sampling, or None; and why it is stale, or "".
    """
    here, listing = working.flat(), library.everywhere()
    ordered = sorted(listing.records, key=lambda run: run.name == WORKSPACE)
    return [_of(run, here) for run in ordered], listing.notes


def _of(run: Record, here: Mapping[str, Any]) -> dict[str, Any]:
    stated = sorted(run.params.keys() - here.keys()) if run.program else ()
    unlike = sorted([*differences(run, here), *stated], key=lambda key: not key.endswith(".name"))
    return {
        "name": run.name,
        "seed": run.seed,
        "differs": {key: mask_secrets(plain(run.params.get(key))) for key in unlike},
        "scores": {name: run.scores[name] for name in metrics.select_judged(run.scores)},
        "seconds": sum(run.costs.seconds.get(stage, 0.0) for stage in ("train", "sample")) or None,
        "fingerprint": run.fingerprint.hash,
        "stale": mask_secrets(library.why_stale(run, here)) if run.name == WORKSPACE else "",
    }


def show_runs(runs: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[Block]:
    """The runs of ``gather``, and a line that counts them. What differs is in the last column, which a narrow terminal
    cuts off."""
    lines = [Note(note, missing=True) for note in notes]
    if not runs:
        return [Note("no runs yet: `dvc repro` makes one"), *lines]
    scored = {name for run in runs for name in run["scores"]} | {"bits_per_dim"}
    names = [name for name in metrics.in_order(scored) if metrics.is_headline(name) or metrics.kind(name) in ALSO]
    rows = []
    for run in runs:
        differs = " ".join(f"{label(key)}={value}" for key, value in run["differs"].items()) or "-"
        seconds = "-" if run["seconds"] is None else f"{run['seconds']:.0f}"
        scores = [cell(run["scores"].get(name)) for name in names]
        state = "stale" if run["stale"] else "scored"
        rows.append([run["name"], cell(run["seed"]), *scores, seconds, state, differs])
    columns = ["name", "seed", *names, "seconds", "state", "differs"]
    fingerprints = len({run["fingerprint"] for run in runs if not run["stale"]})
    mixed = f"; {fingerprints} fingerprints: compare only scores of the same one" if fingerprints > 1 else ""
    table = Table(columns, rows, "", (0, len(columns) - 2, len(columns) - 1))
    return [table, Note(f"{plural(len(runs), 'run')}{mixed}"), *lines]


def label(key: str) -> str:
    """``schedule`` for ``diffusion.schedule.name``; for other keys the last two words."""
    section, _, name = key.rpartition(".")
    return section.rpartition(".")[2] if section and name == "name" else ".".join(key.split(".")[-2:])
