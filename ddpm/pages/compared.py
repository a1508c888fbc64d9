"""The variants side by side: verdicts, images of the same noise, curves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.paths import CURVE, LIKELIHOOD, LOSS, PROCESSED, SAMPLES
from ddpm.compare import noise_levels, pairing, runs, tables
from ddpm.compare import verdict as comparison
from ddpm.compare.noise_levels import Difference
from ddpm.compare.revisions import Revision
from ddpm.compare.runs import Run
from ddpm.compare.tables import Rows
from ddpm.compare.verdict import Described
from ddpm.data.processed import open_split
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import COLUMNS, Block, Figure, Note, Strip, Table, attempted
from ddpm.runs import library
from ddpm.runs.library import WORKSPACE

BOUND_COLUMNS = ("vlb_test", "vlb_train", "mse_test", "mse_train")
DISTANCES = ("classifier.fd", "random_conv.fd", "inception.fid")
BINS = 100  # points of a loss curve
LEVELS = (
    "Where in the noise a variant denoises held-out images better or worse than the baseline: the mean over the "
    f"training seeds and, from {noise_levels.FEWEST} seeds on, a band that holds at all noise levels together."
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """Variants, and the verdicts on them, if any.

    arms: label -> a variant's runs by training seed, the baseline first; only the working folder's if no variants were
    requested or none was run. tables: title, and rows of cells, the heads first. refused: why there are no verdicts.
    levels: where in the noise the variants differ. learning: draws the variants' scores over training, with the bands
    of their differences. tuned: curves of what each variant was tuned on. answers: what the verdicts come to, in words,
    which begins the page.
    """

    arms: dict[str, dict[int, Revision]]
    verdicts: Sequence[Described] = ()
    tables: Sequence[tuple[str, Rows]] = ()
    notes: Sequence[str] = ()
    refused: str = ""
    levels: Sequence[Difference] = ()
    learning: Callable[[Path], None] | None = None
    tuned: Sequence[Panel] = ()
    answers: Sequence[str] = ()

    @classmethod
    def read(cls, settings: Config, by: Sequence[str] = (), may_differ: Collection[str] = ()) -> Compared:
        """The existing runs, with the working params' ``settings``. Raises UserError if none has a key of ``by``."""
        arms = {"this model": {settings.seed: Revision(WORKSPACE, WORKSPACE)}}
        if not by:
            how = "`ddpm report --by diffusion.schedule.name`, or by another params key, compares the variants of it"
            return cls(arms, refused=how)
        gathered = runs.gather()
        pairing.check_keys(by, gathered.runs, settings)
        try:
            matched = runs.matching(gathered.runs, settings, by)
            ran = {arm.label: arm.runs for arm in pairing.arms(matched.runs, by, settings)}
            arms = of_runs(ran)
            found = comparison.compare(gathered, by, settings, (), may_differ)
        except UserError as error:
            return cls(arms, refused=str(error))
        levels = noise_levels.differences(ran, settings.compare.confidence)
        notes = [*tables.notes(found), *noise_levels.lines(levels)]
        answers = tables.headlines(found.verdicts, found.metrics[0])
        return cls(arms, found.verdicts, list(tables.tables(found)), notes, levels=levels, answers=answers)


def of_runs(arms: Mapping[str, Mapping[int, Run]]) -> dict[str, dict[int, Revision]]:
    """Their files."""
    in_git = any(run.source == "dvc" for arm in arms.values() for run in arm.values())
    ids = {name: str(commit.id) for name, commit in library.experiments(library.repository())} if in_git else {}
    return {
        label: {seed: Revision(run.name, run.source, ids.get(run.name, "")) for seed, run in arm.items()}
        for label, arm in arms.items()
    }


def answers(found: Compared) -> list[Block]:
    """What the verdicts come to."""
    return [Note(answer) for answer in found.answers]


def verdict(found: Compared) -> list[Block]:
    """The verdicts, and the runs behind them."""
    if not found.verdicts:
        raise UserError(found.refused)
    parts: list[Block] = []
    for title, (heads, *rows) in found.tables:
        if heads[-1] != "verdict":
            parts.append(Table(heads, rows, title))
            continue
        split = [(*row[:-1], *row[-1].partition(": ")[::2]) for row in rows]
        parts.append(Table([*heads, "why"], split, title, text_columns=(0, 7, 8)))
    caption = "Each training seed's difference from the baseline, the mean and its interval."
    parts.append(Figure(caption, partial(tables.draw, found.verdicts), wide=True))
    if found.learning:
        parts.append(
            Figure("The score over training, and each difference from the baseline.", found.learning, wide=True)
        )
    if found.levels:
        parts.append(Figure(LEVELS, [noise_levels.panel(found.levels)]))
    parts += [Figure("What each variant was tuned on: means over the tuning seeds.", [panel]) for panel in found.tuned]
    return [*parts, *(Note(note) for note in found.notes if note not in found.answers)]


def samples(found: Compared) -> list[Block]:
    """The first images of each variant, drawn from the same noise, above real ones. Raises UserError without runs."""
    if not found.arms:
        raise UserError("no run has finished, so there are no images")
    shared = set.intersection(*map(set, found.arms.values()))
    if not shared:
        seeds = "; ".join(f"{label} has {pairing.named(arm)}" for label, arm in found.arms.items())
        raise UserError(f"no training seed in common, so no noise either ({seeds}): run the variants with one seed")
    seed = min(shared)
    same = "the images of a column were drawn from the same noise" if len(found.arms) > 1 else "the first of the set"
    shown: list[Block] = [Note(f"Training seed {seed}; {same}.")]
    for label, arm in found.arms.items():
        shown += attempted(lambda label, run: [Strip(label, run.images(f"{SAMPLES}/samples.npy"))], label, arm[seed])
    return shown + attempted(lambda: [Strip("real test images", open_split(PROCESSED, "test")[0][:COLUMNS])])


def curves(found: Compared) -> list[Block]:
    """For each variant, loss over training and the likelihood bound's terms over t; means over seeds."""
    lacking: list[Block] = []
    losses = _means(found, LOSS, ("step", "loss"), lacking)
    bounds = _means(found, LIKELIHOOD, ("t", *BOUND_COLUMNS), lacking)
    scores = [] if found.learning else _learning(found)  # a study's page has them next to its verdicts
    return [*(_loss(losses) if losses else ()), *scores, *(_bound(bounds) if bounds else ()), *lacking]


def _means(found: Compared, path: Path, names: Sequence[str], lacking: list[Block]) -> dict[str, Array]:
    """label -> the mean of these columns over the variant's seeds, row by row, as long as the shortest; notes on what
    cannot be read are added to ``lacking``."""
    means = {}
    for label, arm in found.arms.items():
        arrays = []
        for run in arm.values():
            try:
                arrays.append(run.columns(str(path), *names))
            except UserError as error:
                lacking.append(Note(str(error), missing=True))
        if arrays:
            means[label] = np.mean([array[: min(map(len, arrays))] for array in arrays], axis=0)
    return means


def _learning(found: Compared) -> list[Figure]:
    """The Fréchet distance over training, if all runs have snapshots."""
    for metric in DISTANCES:
        lacking: list[Block] = []
        means = _means(found, CURVE, ("images", metric), lacking)
        if not lacking and any(len(mean) > 1 for mean in means.values()):
            caption = f"{metric} of the model at its snapshots and at the end: mean over the training seeds."
            ticks = sorted({round(at) for mean in means.values() for at in mean[:, 0]})
            panel = Panel("score over training", "images seen", metric, means, log="x", points=True, ticks=ticks)
            return [Figure(caption, [panel])]
    return []


def _loss(means: dict[str, Array]) -> list[Figure]:
    smooth = {
        label: np.array([part.mean(0) for part in np.array_split(mean, min(BINS, len(mean)))])
        for label, mean in means.items()
    }
    caption = f"Training loss: mean over the training seeds, in at most {BINS} averages of successive rows."
    if len(smooth) > 1:
        caption += " Losses of different targets or weightings have different scales."
    return [Figure(caption, [Panel("training loss", "step", "loss", smooth, log="y")])]


def _bound(means: dict[str, Array]) -> list[Figure]:
    # the last row is L_T, at T + 1, where there is nothing to denoise
    terms = {label: mean[:-1, [0, 1]] for label, mean in means.items()}
    label, own = next(iter(means.items()))
    split, of = (", test split", f", {label}") if len(means) > 1 else ("", "")
    if len(means) == 1:
        terms = {"test": own[:-1, [0, 1]], "train": own[:-1, [0, 2]]}
    errors = {"test": own[:-1, [0, 3]], "train": own[:-1, [0, 4]]}
    return [
        Figure(
            "The variational bound's terms by t; over all t, and with L_T, they add up to bits_per_dim.",
            [Panel(f"bound on the likelihood{split}", "t", "bits per dimension, each step", terms, log="y")],
        ),
        Figure(
            "On held-out and on train images: a gap between the two is overfitting.",
            [Panel(f"denoising error{of}", "t", "mean squared error of epsilon", errors, log="y")],
        ),
    ]
