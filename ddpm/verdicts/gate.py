"""Scores against a baseline of several training seeds: did a change make the model worse than seeds alone do?

With mean m and standard deviation s of a score over n training seeds, one more honest run x is off by
(x - m) / (s sqrt(1 + 1/n)), Student's t with n - 1 degrees of freedom: the prediction interval of one new normal
value. A score is worse if it is off to the bad side by more than max(k s sqrt(1 + 1/n), floor).

At k = 3 one metric calls an honest run worse 2.0 times in 100 at n = 5 and 1.5 times at n = 6; with several metrics,
each does so at most that often. Honest runs should pass 19 times in 20. So by default only the Fréchet distance and the
bits per dimension decide, 4.0 times in 100 at n = 5 whatever their correlation; the others are shown next to them.
Floors lower these rates. A distance that is skewed to the bad side raises its own: log-normal by 10%, to 2.6 in 100 at
n = 5.

Copies of train images score like real images. So a run that copies fails, whatever the baseline says, and no
baseline is made from it. The share of its samples that come near to a train image has a limit of its own, which new
images exceed less than once in 100 runs (ddpm/scoring/memorisation.py).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field
from tabulate import tabulate

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.base.paths import BASELINE, RUN
from ddpm.base.sections import Section
from ddpm.params import config, file, presets
from ddpm.params.config import Config, Gate
from ddpm.runs import alike, library, measured
from ddpm.runs.record import Record
from ddpm.scoring.metric import Direction
from ddpm.verdicts import metrics, pairing

SUMMARY = "GITHUB_STEP_SUMMARY"  # the file that GitHub shows on a workflow run's page
MIN_SEEDS = 5
HONEST_FAIL = 0.05  # the largest share of honest runs that a gate should stop
METRICS = tuple(name for name in metrics.OF_EXTRACTOR | metrics.ALONE if name not in metrics.EXTRAPOLATED)
REMAKE = "`ddpm gate --update` makes a new one"


class Expected(Section):
    """What honest training seeds score in one metric.

    mean and sd (with n - 1 in its denominator) are in the metric's own unit, over n seeds.
    """

    mean: float
    sd: Annotated[float, Field(ge=0)]
    n: Annotated[int, Field(ge=MIN_SEEDS)]
    direction: Direction


def _right_ways(scores: dict[str, Expected]) -> dict[str, Expected]:
    if not scores:
        raise UserError("names no metric")
    for name, expected in scores.items():
        if expected.direction != (right := metrics.direction(name)):
            raise UserError(f"{name}.direction: {expected.direction!r} is wrong: {right!r}")
    return scores


class Baseline(Section):
    """The content of metrics/baseline.json.

    preset: the one that the runs have the params of, if any. comparable: their fingerprint's content. scores: by the
    score's name, such as classifier.fd.
    """

    preset: str | None = None
    comparable: dict[str, Any]
    scores: Annotated[dict[str, Expected], AfterValidator(_right_ways)]


class Check(BaseModel):
    """One score against the baseline, or, if ``expected`` is None, a share of copies against its own limit.

    tolerance: how far it may be off to the bad side, max(k sd sqrt(1 + 1/n), floor) in the metric's own unit. limit:
    the worst value that passes. decides: whether the gate fails if it is worse.
    """

    name: str
    value: float
    expected: Expected | None
    tolerance: float
    limit: float
    is_worse: bool
    is_better: bool
    decides: bool

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of ``markdown``'s table."""
        name, before, change = f"**{self.name}**" if self.decides else self.name, ["-", "-", "-"], "-"
        if expected := self.expected:
            before = [f"{expected.mean:.4g}", f"{expected.sd:.2g}", str(expected.n)]
            change = f"{self.value - expected.mean:+.2g}"
        arrow = "↑" if expected and expected.direction == "higher" else "↓"
        worse = "**regression**" if self.decides else "worse (does not decide)"
        verdict = worse if self.is_worse else "improved" if self.is_better else "ok"
        return f"{name} {arrow}", *before, f"{self.value:.4g}", change, f"{self.limit:.4g}", verdict


def gate(run: Record, baseline: Baseline, config: Config) -> list[Check]:
    """Every metric of the baseline, in the order in which scores are shown, then whether train images are copied.

    Raises UserError if the two can't be compared: another fingerprint, a metric of the baseline that the run lacks, or
    a deciding metric that the baseline lacks.
    """
    scores, comparable, expectations = run.scores, run.fingerprint.comparable, baseline.scores
    # never for a run that copies: that is a regression whatever the baseline, and no baseline is made from it
    or_remake = "" if metrics.copied(scores) else f", or {REMAKE}"
    if comparable != baseline.comparable:
        before, now = files.flatten(baseline.comparable), files.flatten(comparable)
        keys = [key for key in before | now if before.get(key) != now.get(key)]
        other = alike.some([f"{key} ({_brief(before, key)} there, {_brief(now, key)} here)" for key in keys], 6)
        of, remedy = "", "set them back"
        if baseline.preset:
            of = f"it is of the preset {baseline.preset!r}, and "
            remedy = f"`ddpm preset {baseline.preset} && dvc repro` makes scores that can be"
        raise UserError(f"{BASELINE}: {of}these scores cannot be compared with it: {other}: {remedy}{or_remake}")
    if missing := [name for name in expectations if name not in scores]:
        raise UserError(f"{RUN}: {missing[0]} is missing, which {BASELINE} has: run `dvc repro`{or_remake}")
    deciding = decisive(scores, config.gate)
    if missing := [name for name in deciding if name not in expectations]:
        raise UserError(
            f"{BASELINE}: {missing[0]} is missing, which gate.metrics lets decide: take it out there{or_remake}"
        )
    checks = []
    for name in metrics.judged(expectations):
        value, expected, floor = scores[name], expectations[name], metrics.floor(name, config.compare) or 0.0
        allowed = max(config.gate.k * expected.sd * math.sqrt(1 + 1 / expected.n), floor)
        gain, limit = metrics.gain(name, value - expected.mean), expected.mean - metrics.gain(name, allowed)
        checks.append(
            Check(name=name, value=value, expected=expected, tolerance=allowed, limit=limit, is_worse=gain < -allowed,
                  is_better=gain > allowed, decides=name in deciding)
        )  # fmt: skip
    for space in metrics.closeness(scores):
        name, tolerance = f"{metrics.MEMORISATION}{space.space}.share", space.limit - space.expected
        checks.append(
            Check(name=name, value=space.share, expected=None, tolerance=tolerance, limit=space.limit,
                  is_worse=space.copies, is_better=False, decides=True)
        )  # fmt: skip
    return checks


def _brief(content: Mapping[str, Any], key: str) -> str:
    """A value of a fingerprint for a message; of a digest, enough to tell it from another."""
    return str(content.get(key, "absent"))[:12]


def decisive(names: Iterable[str], gate: Gate) -> list[str]:
    """The scores that decide, by ``gate.metrics``.

    Raises UserError if a name in ``gate.metrics`` is not a metric, or nothing is left to decide.
    """
    if unknown := [name for name in gate.metrics if name not in METRICS]:
        hint = variant.closest(unknown[0], METRICS)
        raise UserError(f"gate.metrics: unknown {unknown[0]!r}{hint}; allowed: {', '.join(METRICS)}")
    known = metrics.judged(names)
    deciding = [name for name in known if metrics.kind(name) in gate.metrics]
    if not deciding:
        raise UserError(
            f"gate.metrics: none of {', '.join(gate.metrics)} is among the scores ({', '.join(known) or 'none'})"
        )
    return deciding


def failed(checks: Iterable[Check]) -> list[str]:
    """The regressions: the names of the checks that decide and are worse."""
    return [check.name for check in checks if check.decides and check.is_worse]


def false_alarms(seeds: Iterable[int], k: float) -> float:
    """An upper bound on the share of honest runs that are stopped. seeds: n of each metric that decides.

    Boole's inequality over one-sided tails of Student's t; for normal scores it holds whatever the correlation.
    """
    from scipy.special import stdtr

    return min(1.0, sum(float(stdtr(n - 1, -k)) for n in seeds))


def read_baseline(path: Path = BASELINE) -> Baseline:
    """The baseline. Raises UserError if the file is missing or not one: a wrong key, type, sign or direction."""
    return measured.read(path, Baseline, REMAKE)


def update(of: Config, path: Path = BASELINE) -> list[str]:
    """Write the baseline from the recorded runs of these params with any seed; return notes on what was left out.

    Raises UserError, and keeps the old one, if fewer than MIN_SEEDS seeds have the working folder's fingerprint, the
    runs are of several versions of the code, or nothing is left to decide.
    """
    listing, fingerprint = library.everywhere(), library.workspace().fingerprint.hash
    matching = alike.matching(listing.records, of)
    notes = [*listing.notes, *matching.notes]
    runs = [run for run in matching.records if run.fingerprint.hash == fingerprint]
    if others := len(matching.records) - len(runs):
        notes.append(f"left out, of another fingerprint: {others}")
    if len(runs) < MIN_SEEDS:
        seeds = ", ".join(str(run.seed) for run in runs) or "none"
        raise UserError(
            f"gate --update: {len(runs)} training seeds ({seeds}) have these params and fingerprint "
            f"{fingerprint[:12]}, {others} runs another; allowed: at least {MIN_SEEDS}: add by `dvc exp run -S seed=N`"
        )
    for run in runs:
        if spaces := metrics.copied(run.scores):
            raise UserError(
                f"gate --update: {run.name} (seed {run.seed}) copies train images ({', '.join(spaces)}): no baseline "
                "can be made of it; train on more images, for fewer steps, or a smaller network"
            )
    if odd := pairing.code_differences(runs):
        raise UserError(f"gate --update: {'; '.join(odd)}: run the odd ones again, so that one code made all of them")
    scores = {}
    for name in metrics.judged(set().union(*(run.scores for run in runs))):
        values = [run.scores[name] for run in runs if name in run.scores]
        if len(values) < len(runs):
            notes.append(f"{name}: left out, not every run has it")
            continue
        way, spread = metrics.direction(name), stdev(values)
        scores[name] = Expected(mean=mean(values), sd=spread, n=len(values), direction=way)
    decisive(scores, of.gate)
    baseline = Baseline(preset=_preset(runs[0]), comparable=runs[0].fingerprint.comparable, scores=scores)
    files.write_json(path, baseline.model_dump())
    return notes


def _preset(run: Record) -> str | None:
    """The preset that has the run's params."""
    flat = {name: config.check(file.decode(presets.text(name), name)).flat() for name in presets.names()}
    return next((name for name, params in flat.items() if not alike.differences(run, library.relevant(params))), None)


def markdown(checks: Sequence[Check], gate: Gate) -> str:
    """The verdict, a table and what it means, for a terminal and for a workflow run's page."""
    bad = failed(checks)
    heads = ("metric", "baseline", "sd", "n", "now", "change", "worst allowed", "verdict")
    alarms = false_alarms([check.expected.n for check in checks if check.decides and check.expected], gate.k)
    lines = [
        f"### ddpm gate: {'regression in ' + ', '.join(bad) if bad else 'pass'}",
        "",
        tabulate([check.row for check in checks], heads, tablefmt="github", disable_numparse=True),
        "",
        f"Bold metrics decide: one fails when it is worse than the mean by more than max({gate.k:g} sd √(1 + 1/n), "
        f"floor). At most {alarms:.1%} of honest runs with another seed fail, if scores are normal.",
    ]
    if alarms > HONEST_FAIL:
        fix = "take a baseline of more seeds, a larger gate.k, or fewer gate.metrics"
        lines.append(f"That is more than {HONEST_FAIL:.0%}: {fix}.")
    lines += [
        f"{check.name}: {check.value:.1%} of the samples come near to a train image; up to {check.limit:.1%} is not a "
        "sign of copies: look at data/evaluation/nearest.png."
        for check in checks
        if check.expected is None and check.is_worse
    ]
    if better := [check.name for check in checks if check.is_better]:
        # never after a regression: the new baseline would accept that too
        advice = "" if bad else " If the change was meant to do that, `ddpm gate --update` makes it the baseline."
        lines.append(f"Better than the baseline: {', '.join(better)}.{advice}")
    return "\n".join(lines)


def summarize(text: str) -> None:
    """Append to the file that the environment's GITHUB_STEP_SUMMARY names, if any.

    Raises UserError if it can't be written to.
    """
    path = os.environ.get(SUMMARY)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise UserError(f"{SUMMARY}: {path} cannot be written to ({error.strerror}): unset it, or fix it") from error
