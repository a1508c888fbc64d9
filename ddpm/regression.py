"""Scores against a baseline of several training seeds: whether a change made the model worse than seeds make it.

With mean m and standard deviation s of a score over n training seeds, one more honest run x is off by
(x - m) / (s sqrt(1 + 1/n)), Student's t with n - 1 degrees of freedom: the prediction interval of one new normal
value. A score is worse when it is off to the bad side by more than max(k s sqrt(1 + 1/n), floor).

At k = 3 one metric calls an honest run worse 2.0 times in 100 at n = 5, 1.5 times at n = 6, and several metrics do so
at most that often each. Honest runs shall pass 19 times in 20: so the Fréchet distance and the bits per dimension
alone decide by default, 4.0 times in 100 at n = 5 whatever their correlation. Precision, recall, the Inception Score
and KID, of the same features as the Fréchet distance, are told beside them. A third that decides, as a second
extractor's, wants n = 6 (``seeds_needed``). Floors lower these rates; a distance that is skewed to the bad side raises
its own: log-normal with a spread of 10%, to 2.6 times in 100 at n = 5.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ddpm import files, metrics, results, variants
from ddpm.config import Config, Gate, Section
from ddpm.errors import UserError
from ddpm.results import Result

BASELINE = Path("metrics/baseline.json")
SCORES = Path("metrics/evaluate.json")
FINGERPRINT = Path("metrics/fingerprint.json")
SUMMARY = "GITHUB_STEP_SUMMARY"  # the file that GitHub shows on a workflow run's page
MIN_SEEDS = 5
HONEST_FAIL = 0.05  # the largest share of honest runs that a gate should stop
METRICS = tuple(name for name in metrics.OF_EXTRACTOR | metrics.ALONE if name not in metrics.EXTRAPOLATED)
REMAKE = "`ddpm gate --update` makes it anew"


class Expected(Section):
    """What honest training seeds score in one metric.

    mean and sd (with n - 1 in its denominator) are in the metric's own unit, over n seeds; fingerprint is the hash of
    metrics/fingerprint.json that these scores share.
    """

    mean: float
    sd: Annotated[float, Field(ge=0)]
    n: Annotated[int, Field(ge=MIN_SEEDS)]
    direction: metrics.Direction
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


Baseline = Mapping[str, Expected]  # by the score's name, such as classifier.fd


@dataclass(frozen=True)
class Scored:
    """The run to be gated. scores: name -> finite number. samples: how many images were scored."""

    scores: Mapping[str, float]
    fingerprint: str
    samples: int


@dataclass(frozen=True)
class Check:
    """One score against the baseline. tolerance: how far it may be off to the bad side. decides: or is only told."""

    name: str
    value: float
    expected: Expected
    tolerance: float
    decides: bool

    @property
    def gain(self) -> float:
        """The change from the baseline's mean, above 0 for the better."""
        return metrics.gain(self.name, self.value - self.expected.mean)

    @property
    def is_worse(self) -> bool:
        return self.gain < -self.tolerance

    @property
    def is_better(self) -> bool:
        return self.gain > self.tolerance

    @property
    def limit(self) -> float:
        """The worst value that passes."""
        return self.expected.mean - metrics.gain(self.name, self.tolerance)


def gate(run: Scored, baseline: Baseline, settings: Gate) -> list[Check]:
    """Every metric of the baseline, in the order in which scores are shown.

    Raises UserError where the two can't be compared: another fingerprint, a metric of the baseline that the run lacks,
    or one that is to decide and that the baseline lacks.
    """
    if other := [each.fingerprint for each in baseline.values() if each.fingerprint != run.fingerprint]:
        raise UserError(
            f"{BASELINE}: its fingerprint {other[0][:12]} is not {run.fingerprint[:12]} of these scores of "
            f"{run.samples} samples: other real images, extractor weights, number of samples, sampler or metric "
            f"settings; set them back, or {REMAKE}"
        )
    if missing := [name for name in baseline if name not in run.scores]:
        raise UserError(f"{SCORES}: {missing[0]} is missing, which {BASELINE} has: run `dvc repro`, or {REMAKE}")
    deciding = decisive(run.scores, settings)
    if missing := [name for name in deciding if name not in baseline]:
        raise UserError(f"{BASELINE}: {missing[0]} is missing, which gate.metrics lets decide: {REMAKE}")
    return [
        Check(name, run.scores[name], baseline[name], tolerance(name, baseline[name], settings), name in deciding)
        for name in metrics.judged(baseline)
    ]


def decisive(names: Iterable[str], settings: Gate) -> list[str]:
    """Those of the scores that ``gate.metrics`` lets decide.

    Raises UserError when a name in ``gate.metrics`` or ``gate.floors`` is no metric, or nothing is left to decide.
    """
    for key, given in {"metrics": settings.metrics, "floors": settings.floors}.items():
        for name in given:
            if name not in METRICS:
                hint = variants.closest(name, METRICS)
                raise UserError(f"gate.{key}: unknown {name!r}{hint}; allowed: {', '.join(METRICS)}")
    known = metrics.judged(names)
    found = [name for name in known if _metric(name) in settings.metrics]
    if not found:
        raise UserError(
            f"gate.metrics: none of {', '.join(settings.metrics)} is among the scores ({', '.join(known) or 'none'})"
        )
    return found


def tolerance(name: str, expected: Expected, settings: Gate) -> float:
    """max(k sd sqrt(1 + 1/n), floor), in the metric's own unit."""
    spread = settings.k * expected.sd * math.sqrt(1 + 1 / expected.n)
    return max(spread, settings.floors.get(_metric(name), 0.0))


def failed(checks: Iterable[Check]) -> list[Check]:
    """The regressions: those that decide and are worse."""
    return [check for check in checks if check.decides and check.is_worse]


def false_alarms(seeds: Iterable[int], k: float) -> float:
    """An upper bound on the share of honest runs that are stopped; ``seeds``: n of each metric that decides.

    Boole's inequality over one-sided tails of Student's t: it holds whatever the correlation, for normal scores.
    """
    from scipy.special import stdtr

    return min(1.0, sum(float(stdtr(n - 1, -k)) for n in seeds))


def seeds_needed(deciding: int, k: float) -> int | None:
    """The least n >= MIN_SEEDS at which ``false_alarms`` of so many metrics is at most 5%; None: not below 1000."""
    enough = (n for n in range(MIN_SEEDS, 1000) if false_alarms([n] * deciding, k) <= HONEST_FAIL)
    return next(enough, None)


def read_run(scores: Path = SCORES, fingerprint: Path = FINGERPRINT) -> Scored:
    """The current scores. Raises UserError when a file is missing or changed by hand, or a score is not finite."""
    found = read_fingerprint(fingerprint)
    value = files.read_json(scores)
    if not isinstance(value, dict):
        raise UserError(f"{scores}: must be a mapping of scores, it is {type(value).__name__}; run `dvc repro`")
    return Scored(_finite(files.flatten(value), str(scores)), found.hash, found.comparable.samples)


class Comparable(BaseModel):
    """``samples``: how many images were scored; what else there is only counts towards the hash."""

    samples: Annotated[int, Field(ge=1, strict=True)]


class Fingerprint(BaseModel):
    """What of metrics/fingerprint.json the gate needs."""

    hash: str
    comparable: Comparable


def read_fingerprint(path: Path = FINGERPRINT) -> Fingerprint:
    """Raises UserError when the file is missing, or its hash is not the digest of what it is said to be of."""
    value = files.read_json(path)
    try:
        found = Fingerprint.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {variants.explain(error, Fingerprint, '')}; run `dvc repro`") from error
    if files.digest(value["comparable"]) != found.hash:
        raise UserError(
            f"{path}: its hash is not that of its content: it was changed by hand; run `dvc repro -f evaluate`"
        )
    return found


def read_baseline(path: Path = BASELINE) -> Baseline:
    """Raises UserError when the file is missing or is no baseline: a key, type, sign or direction is off."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): `ddpm gate --update` makes it") from error
    try:
        entries = TypeAdapter(dict[str, dict[str, Any]]).validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path}: {variants.explain(error, Expected, '')}: no baseline; {REMAKE}") from error
    if not entries:
        raise UserError(f"{path}: names no metric; {REMAKE}")
    baseline = {}
    for name, entry in entries.items():
        try:
            baseline[name] = Expected.model_validate(entry)
            right = metrics.direction(name)
        except ValidationError as error:
            raise UserError(f"{path}: {variants.explain(error, Expected, name)}; {REMAKE}") from error
        except UserError as error:
            raise UserError(f"{path}: {error}; {REMAKE}") from error
        if baseline[name].direction != right:
            raise UserError(f"{path}: {name}.direction: {baseline[name].direction!r} is wrong: {right!r}; {REMAKE}")
    return baseline


def update(config: Config, path: Path = BASELINE) -> tuple[Baseline, tuple[str, ...]]:
    """Write the baseline from the recorded runs of these params with any seed; it and what is to be said of it.

    Raises UserError, and leaves the old one, when fewer than MIN_SEEDS seeds have the current fingerprint.
    """
    gathered = results.gather()
    matching = results.matching(gathered.results, config)
    baseline, notes = baseline_of(matching.results, read_fingerprint().hash, config.gate)
    files.write_json(path, {name: expected.model_dump() for name, expected in baseline.items()})
    return baseline, (*gathered.notes, *matching.notes, *notes)


def baseline_of(runs: Sequence[Result], fingerprint: str, settings: Gate) -> tuple[Baseline, list[str]]:
    """The baseline over those of the runs, one a seed, with this fingerprint; and what was left out, a line each.

    Raises UserError for fewer than MIN_SEEDS seeds, a score that is not finite, or when nothing is left to decide.
    """
    comparable = [run for run in runs if run.fingerprint == fingerprint]
    by_seed = {run.seed: _finite(run.scores, f"{run.name} (seed {run.seed})") for run in comparable}
    others = len(runs) - len(comparable)
    if len(by_seed) < MIN_SEEDS:
        seeds = ", ".join(map(str, sorted(by_seed))) or "none"
        raise UserError(
            f"gate --update: {len(by_seed)} training seeds ({seeds}) have these params and fingerprint "
            f"{fingerprint[:12]}, {others} runs another; allowed: at least {MIN_SEEDS}: add by `dvc exp run -S seed=N`"
        )
    every = set().union(*by_seed.values())
    shared = metrics.judged(name for name in every if all(name in scores for scores in by_seed.values()))
    decisive(shared, settings)
    notes = [f"left out, of another fingerprint: {others}"] if others else []
    if partial := [name for name in metrics.judged(every) if name not in shared]:
        notes.append(f"{', '.join(partial)}: left out, not every run has it")
    return {name: _expected(name, [scores[name] for scores in by_seed.values()], fingerprint) for name in shared}, notes


def _expected(name: str, values: Sequence[float], fingerprint: str) -> Expected:
    return Expected(
        mean=mean(values),
        sd=stdev(values),
        n=len(values),
        direction=metrics.direction(name),
        fingerprint=fingerprint,
    )


def _finite(scores: Mapping[str, Any], source: str) -> dict[str, float]:
    for name, value in scores.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
            raise UserError(
                f"{source}: {name}: {variants.shown(value)} is no finite number: run `dvc repro` again, or mend "
                "the model"
            )
    return {name: float(value) for name, value in scores.items()}


def _metric(name: str) -> str:
    """``fd`` of ``classifier.fd``."""
    return name.rpartition(".")[2]


def markdown(checks: Sequence[Check], settings: Gate) -> str:
    """The verdict, a table and what it means, for a terminal as for a workflow's page."""
    bad = failed(checks)
    lines = [
        f"### ddpm gate: {'regression in ' + ', '.join(check.name for check in bad) if bad else 'pass'}",
        "",
        "| metric | baseline | sd | n | now | change | worst allowed | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for check in checks:
        expected = check.expected
        change = check.value - expected.mean
        lines.append(
            f"| {_title(check)} | {expected.mean:.4g} | {expected.sd:.2g} | {expected.n} | {check.value:.4g} | "
            f"{change:+.2g} | {check.limit:.4g} | {_verdict(check)} |"
        )
    lines += ["", *_remarks([check.expected.n for check in checks if check.decides], settings)]
    if better := [check.name for check in checks if check.is_better]:
        lines.append(f"Better than the baseline: {', '.join(better)}. `ddpm gate --update` takes that up.")
    return "\n".join(lines)


def baseline_markdown(baseline: Baseline, settings: Gate) -> str:
    """What ``--update`` wrote, and what it will be worth."""
    deciding = decisive(baseline, settings)
    lines = ["| metric | mean | sd | n | may be off by |", "| --- | ---: | ---: | ---: | ---: |"]
    for name in metrics.judged(baseline):
        expected = baseline[name]
        shown = f"**{name}**" if name in deciding else name
        lines.append(
            f"| {shown} | {expected.mean:.4g} | {expected.sd:.2g} | {expected.n} | "
            f"{tolerance(name, expected, settings):.2g} |"
        )
    return "\n".join([*lines, "", *_remarks([baseline[name].n for name in deciding], settings)])


def _remarks(seeds: Sequence[int], settings: Gate) -> list[str]:
    """How a metric fails, and how often an honest run does."""
    alarms = false_alarms(seeds, settings.k)
    lines = [
        f"What is bold decides: it fails when worse than the mean by more than max({settings.k:g} sd √(1 + 1/n), "
        f"floor). At most {alarms:.1%} of honest runs with another seed fail, if scores are normal."
    ]
    if alarms > HONEST_FAIL:
        needed = seeds_needed(len(seeds), settings.k)
        mend = f"a baseline of {needed} seeds" if needed else "a larger gate.k"
        lines.append(f"That is more than {HONEST_FAIL:.0%}: take {mend}, or fewer gate.metrics.")
    return lines


def _title(check: Check) -> str:
    arrow = "↓" if check.expected.direction == "lower" else "↑"
    return f"**{check.name}** {arrow}" if check.decides else f"{check.name} {arrow}"


def _verdict(check: Check) -> str:
    if check.is_worse:
        return "**regression**" if check.decides else "worse (does not decide)"
    return "improved" if check.is_better else "ok"


def summarize(text: str) -> None:
    """Append to the file that the environment's GITHUB_STEP_SUMMARY names, where there is one.

    Raises UserError when it can't be written to.
    """
    path = os.environ.get(SUMMARY)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise UserError(f"{SUMMARY}: {path} cannot be written to ({error.strerror}): unset it, or mend it") from error
