"""Scores against a baseline of several training seeds: did a change make the model worse than another seed would?

The baseline is a stored arm, metrics/baseline.json, and the run in the working folder is judged against it
(``verdict.judge_unpaired``). The metrics of ``gate.metrics`` decide, by default the Fréchet distance and the bits per
dimension, and share the primary metric's part of the error rate; the others are shown next to them. With
``compare.confidence`` at 95% and normal scores, an honest run with another seed is called worse in a deciding metric
at most 2.25 times in 100. That is a mean over baselines: one in seven baselines of eight seeds fails more than 5 of 100
honest runs. The notes give the tolerance, and the regression that the gate would notice.

Copies of train images score like real images. So a run that copies fails, whatever the baseline says, and no
baseline is made from it (ddpm/scoring/memorisation.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from ddpm.base.errors import UserError, plural
from ddpm.base.files import atomic_path, read_json
from ddpm.base.paths import BASELINE, RUN
from ddpm.params.config import Config, Gate
from ddpm.runs import alike, library
from ddpm.runs.record import Record
from ddpm.verdicts import guards, metrics, pairing, remarks, verdict
from ddpm.verdicts.comparison import Judgement
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import PRIMARY, Pair, Verdict

MIN_SEEDS = 5
NOTICED = 0.8
REMAKE = "`ddpm gate --update` makes a new one"


def judge(run: Record, stored: Sequence[Record], config: Config) -> Judgement:
    """The run against the baseline in every metric, those that decide first.

    Raises UserError if they can't be compared, because of another fingerprint or a missing metric, or if no metric
    decides.
    """
    try:
        fingerprint = pairing.check_fingerprints([*stored, run], ())
    except UserError as error:
        raise UserError(f"{BASELINE}: {error}: change that back and run `dvc repro`, or {REMAKE}") from error
    names = metrics.select_judged({name for one in (*stored, run) for name in one.scores})
    for one in (*stored, run):
        if missing := [name for name in names if name not in one.scores]:
            raise UserError(f"{BASELINE} and {RUN} need the same metrics: {one.name} has no {missing[0]}: {REMAKE}")
    deciding = decisive(names, config.gate)
    names = [*deciding, *(name for name in names if name not in deciding)]
    arms = Arm("the stored runs", {}, {one.seed or 0: one for one in stored}), Arm("this run", {}, {run.seed or 0: run})
    rules = guards.rules(config.compare, names, 1, Design((1,)), primaries=len(deciding))
    percent = 50 * PRIMARY * (1 - config.compare.confidence)
    verdicts = verdict.judge_unpaired(Pair(arms[0].label, arms[1].label, tuple(stored), (run,)), rules)
    return Judgement(
        question=f"Is this run worse than the {len(stored)} of {BASELINE}?",
        primary=names[0],
        arms=arms,
        verdicts=tuple(verdicts),
        compare=config.compare,
        notes=(
            f"the gate decides by {' and '.join(deciding)}: if scores are normal, a run that differs only in its seed "
            f"is worse there at most {percent:.3g} times in 100, on average over baselines",
            *map(_tolerance, verdicts[: len(deciding)]),
            *remarks.copies(arms[1:]),
        ),
        fingerprint=fingerprint,
    )


def _tolerance(judged: Verdict) -> str:
    """How much worse a score may be, and the regression that the gate notices with a chance of NOTICED, in words."""
    allowed = max((judged.high or 0.0) - judged.difference, judged.margin)
    noticed = allowed + float(ndtri(NOTICED)) * float(np.std(judged.baseline_scores, ddof=1))
    mean = abs(judged.baseline_mean)
    small, large = (f"{gap:.3g}" + (f" ({gap / mean:.0%})" if mean else "") for gap in (allowed, noticed))
    chance = f"a regression of {large} would be noticed in {NOTICED:.0%} of runs"
    return f"{judged.metric} may be worse than the baseline's mean by {small}; {chance}"


def regressions(judgement: Judgement, gate: Gate) -> list[str]:
    """The deciding metrics that are worse or useless, and the spaces in which the run copies train images."""
    bad = [pair.metric for pair in judgement.verdicts if pair.outcome in ("worse", "useless")]
    spaces = [space for run in judgement.arms[1].runs.values() for space in metrics.find_copies(run.scores)]
    copies = [f"{metrics.MEMORISATION}{space}" for space in spaces]
    return [*(name for name in bad if metrics.kind(name) in gate.metrics), *copies]


def decisive(names: Iterable[str], gate: Gate) -> list[str]:
    """The scores among ``names`` that decide, by ``gate.metrics``. Raises UserError if there is none."""
    known = metrics.select_judged(names)
    if deciding := [name for name in known if metrics.kind(name) in gate.metrics]:
        return deciding
    raise UserError(f"gate.metrics: none of {', '.join(gate.metrics)} is among the scores ({', '.join(known)})")


def read(path: Path = BASELINE) -> tuple[Record, ...]:
    """The baseline's runs. Raises UserError if the file is missing or damaged, or has too few."""
    runs: tuple[Record, ...] = read_json(path, tuple[Record, ...], REMAKE)
    if len({run.seed for run in runs}) < max(len(runs), MIN_SEEDS):
        raise UserError(
            f"{path}: {plural(len(runs), 'run')}; allowed: at least {MIN_SEEDS}, each with a seed of its own; {REMAKE}"
        )
    return runs


def update(config: Config, folders: Iterable[Path] = (), path: Path = BASELINE) -> list[str]:
    """Write the baseline from the recorded runs with these params and any seed, also from ``folders``; return notes.

    Raises UserError, and keeps the old one, if there are fewer than MIN_SEEDS seeds, a run copies train images, they
    have several fingerprints or versions of the code, or no metric is left to decide.
    """
    listing = library.everywhere(folders)
    # of another program's run no param may be known, so that it would match any
    runs, notes = alike.matching((run for run in listing.records if not run.program), config)
    if len(runs) < MIN_SEEDS:
        seeds = pairing.name_seeds(run.seed or 0 for run in runs)
        raise UserError(
            f"gate --update: only {seeds} ran with these params; allowed: at least {MIN_SEEDS} training seeds: add "
            "some by `dvc exp run -S seed=N`"
        )
    arms = [Arm("this model", {}, {run.seed or 0: run for run in runs})]
    if copying := remarks.copies(arms):
        raise UserError(f"gate --update: {copying[0]}: train on more images, for fewer steps, or a smaller network")
    pairing.check(arms, (), ())
    shared = metrics.select_judged(set.intersection(*(set(run.scores) for run in runs)))
    decisive(shared, config.gate)
    with atomic_path(path) as temporary:
        temporary.write_text(
            "[\n" + ",\n".join(json.dumps(_select_parts(run, shared), sort_keys=True) for run in runs) + "\n]\n"
        )
    return [*listing.notes, *notes]


def _select_parts(run: Record, names: Iterable[str]) -> dict[str, object]:
    """The parts of a run that are judged again. Yardsticks are not: a gate also serves models that have learned nothing
    yet."""
    whole = dict.fromkeys(("format", "name", "seed", "finished", "params", "fingerprint"), True)
    return run.model_dump(mode="json", include={**whole, "costs": {*pairing.BUDGETS}, "scores": {*names}})
