"""Scores against a baseline of several training seeds: did a change make the model worse than another seed would?

The baseline is a stored arm, metrics/baseline.json, and the run in the working folder is judged against it
(``unpaired.judge_run``). The metrics of ``gate.metrics`` decide, by default the panel's score and the bits per
dimension, and share the primary metric's part of the error rate; the others are shown next to them. A run that is among
the worst in one of them raises an alarm, and fresh seeds of the same params and code confirm it or clear it
(ddpm/verdicts/confirmation.py). With ``compare.confidence`` at 95% and normal scores, a change that makes nothing worse
fails in a deciding metric at most 2.25 times in 100. That is a mean over baselines: a baseline of few seeds may fail
more. The notes give the bounds, and the regressions that the gate would notice.

Copies of train images score like real images. So a run that copies fails, whatever the baseline says, and no
baseline is made from it (ddpm/scoring/memorisation.py).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddpm.base.errors import UserError, plural
from ddpm.base.files import read_json, write_text
from ddpm.base.paths import BASELINE, RUN
from ddpm.params.config import Config, Gate
from ddpm.referee import guards, metrics, pairing
from ddpm.runs import alike, library
from ddpm.runs.record import Record
from ddpm.verdicts import unpaired
from ddpm.verdicts.arms import Arm, Pair, name_seeds
from ddpm.verdicts.result import Judgement
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.unpaired import MIN_SEEDS

REMAKE = "`ddpm gate --update` makes a new one"


class Answer(NamedTuple):
    """The gate's answer. missing: the seeds that have to run before it can decide; none if it passes or fails."""

    judgement: Judgement
    regressions: list[str]
    alarms: list[str]  # deciding metrics in which the run is so bad that fresh seeds decide
    missing: list[int]


def decide(config: Config, folders: Iterable[Path] = ()) -> Answer:
    """Whether the working folder's run passes. After an alarm its fresh seeds decide, if they are recorded, also in
    ``folders``. Raises UserError if no verdict is possible."""
    run, stored = library.current(config), read()
    judgement, missing = judge(run, stored, config), list[int]()
    bad = regressions(judgement, config.gate)
    alarms = [judged.metric for judged in judgement.verdicts if judged.outcome == "not yet"]
    if alarms and not bad:
        fresh = unpaired.next_seeds((run, *stored))
        recorded = {one.seed: one for one in _list_matching(config, folders).records if library.is_checked_out(one)}
        missing = [seed for seed in fresh if seed not in recorded]
        if not missing:
            judgement = judge(run, stored, config, [recorded[seed] for seed in fresh])
            bad = regressions(judgement, config.gate)
    return Answer(judgement, bad, alarms, missing)


def judge(run: Record, stored: Sequence[Record], config: Config, fresh: Sequence[Record] = ()) -> Judgement:
    """The run against the baseline in every metric, those that decide first; or the ``fresh`` runs that its alarm
    called for.

    Raises UserError if they can't be compared, because of another fingerprint or a missing metric, or if no metric
    decides.
    """
    runs = *stored, run, *fresh
    try:
        fingerprint = pairing.check_fingerprints(runs, ())
    except UserError as error:
        raise UserError(f"{BASELINE}: {error}: change that back and run `dvc repro`, or {REMAKE}") from error
    names = metrics.select_judged({name for one in runs for name in one.scores})
    for one in runs:
        if missing := [name for name in names if name not in one.scores]:
            raise UserError(f"{BASELINE} and {RUN} need the same metrics: {one.name} has no {missing[0]}: {REMAKE}")
    deciding = decisive(names, config.gate)
    names = [*deciding, *(name for name in names if name not in deciding)]
    before = Arm("the stored runs", {}, {one.seed or 0: one for one in stored})
    after = Arm("this model" if fresh else "this run", {}, {one.seed or 0: one for one in fresh or [run]})
    rules = guards.rules(config.compare, names, 1, Design((1,)), primaries=len(deciding))
    pairs = [Pair(before.label, after.label, tuple(stored), tuple(ones)) for ones in ([run], fresh) if ones]
    verdicts = unpaired.judge_run(pairs[0], rules, *pairs[1:])
    return Judgement(
        question=f"Is this run worse than the {len(stored)} of {BASELINE}?",
        primary=names[0],
        arms=(before, after),
        verdicts=tuple(verdicts),
        compare=config.compare.model_dump(mode="json"),
        notes=(*unpaired.describe_bounds(verdicts, rules), *guards.copies([after])),
        fingerprint=fingerprint,
    )


def regressions(judgement: Judgement, gate: Gate) -> list[str]:
    """The deciding metrics that are worse or useless, and the spaces in which the run copies train images."""
    bad = [pair.metric for pair in judgement.verdicts if pair.outcome in ("worse", "useless")]
    spaces = [space for run in judgement.arms[1].runs.values() for space in metrics.find_copies(run.scores)]
    copies = [f"{metrics.MEMORISATION}{space}" for space in spaces]
    return [*(name for name in bad if metrics.kind(name) in gate.metrics), *copies]


def decisive(names: Iterable[str], gate: Gate) -> list[str]:
    """The scores among ``names`` that decide, by ``gate.metrics``. Raises UserError if there is none."""
    if deciding := [name for name in names if metrics.kind(name) in gate.metrics]:
        return deciding
    raise UserError(f"gate.metrics: none of {', '.join(gate.metrics)} is among the scores ({', '.join(names)})")


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
    runs, notes = _list_matching(config, folders)
    if len(runs) < MIN_SEEDS:
        seeds = name_seeds(run.seed or 0 for run in runs)
        raise UserError(
            f"gate --update: only {seeds} ran with these params; allowed: at least {MIN_SEEDS} training seeds: add "
            "some by `dvc exp run -S seed=N`"
        )
    arms = [Arm("this model", {}, {run.seed or 0: run for run in runs})]
    if copying := guards.copies(arms):
        raise UserError(f"gate --update: {copying[0]}: train on more images, for fewer steps, or a smaller network")
    pairing.check(arms, (), ())
    shared = metrics.select_judged(set.intersection(*(set(run.scores) for run in runs)))
    decisive(shared, config.gate)
    # the parts that are judged again; yardsticks are not: a gate also serves models worse than they are
    parts: dict[str, Any] = dict.fromkeys(("format", "name", "seed", "finished", "params", "fingerprint"), True)
    parts |= {"costs": {*pairing.BUDGETS}, "scores": {*shared}}
    lines = ",\n".join(json.dumps(run.model_dump(mode="json", include=parts), sort_keys=True) for run in runs)
    write_text(path, f"[\n{lines}\n]\n")
    return [*notes]


def _list_matching(config: Config, folders: Iterable[Path]) -> library.Listing:
    """The recorded runs with these params and any seed."""
    listing = library.everywhere(folders)
    # of another program's run no param may be known, so that it would match any
    runs, notes = alike.matching((run for run in listing.records if not run.program), config)
    return library.Listing(runs, (*listing.notes, *notes))
