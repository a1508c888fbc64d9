"""Make the table of docs/ladder.md: streams of ideas, simulated through the functions that decide a ladder.

``python -m docs.make_ladder`` prints it, with what the page says of guards and rare collapses; 10,000
streams of 100 ideas for each row take some minutes on one core.
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ddpm.ladder import evidence
from ddpm.ladder.evidence import Truth
from ddpm.report import render
from ddpm.report.blocks import Chapter, Table
from ddpm.verdicts.statistics import Array

ERROR, AT_LEAST, MOST, IDEAS, EIGHT = 0.05, 6, 32, 100, 8


class Share(NamedTuple):
    """What a rule did, over streams: false rungs among all (0 without rungs), with the standard error of that mean; the
    share of streams with a false rung; real ideas among those that it was given; rungs of a stream."""

    false: float
    error: float
    any: float
    real: float
    rungs: float


class Simulated(NamedTuple):
    """The three rules, the seeds that the ladder spends on an idea, and by how many standard deviations the champion of
    keep-if-better claims to be better than it is."""

    ladder: Share
    fixed: Share
    keep: Share
    seeds: float
    claim: float


class Case(NamedTuple):
    """Streams of ideas. gains: their distribution around the effect. real: the share of ideas with an effect, which is
    one of ``effects``, in standard deviations of the gains. resubmits: every other idea is the best failure so far."""

    name: str
    gains: str = "normal"
    real: float = 0.0
    effects: tuple[float, ...] = (1.0, 2.0, 3.0)
    resubmits: bool = False


CASES = (
    Case("no real idea"),
    Case("no real idea, best failures tried again", resubmits=True),
    Case("10% real, 1 to 3 sd", real=0.1),
    Case("10% real, best failures tried again", real=0.1, resubmits=True),
    Case("30% real, best failures tried again", real=0.3, resubmits=True),
    Case("10% real, t with 3 degrees of freedom", "t3", real=0.1, resubmits=True),
    Case("10% real, ties", "tied", real=0.1, resubmits=True),
    *(
        Case(f"{share}, skewness {skewness}, rare {what}", f"{skewness} {what}", real, resubmits=bool(real))
        for skewness in (1, 2)
        for what in ("losses", "gains")
        for share, real in (("no real idea", 0.0), ("10% real", 0.1))
    ),
)


def draw(random: np.random.Generator, gains: str, size: tuple[int, ...]) -> Array:
    """Gains of mean 0 and standard deviation 1."""
    match gains.split():
        case ["normal"]:
            return random.standard_normal(size)
        case ["t3"]:
            return random.standard_t(3, size) / 3**0.5
        case ["tied"]:
            return np.round(random.standard_normal(size) / 0.67) * 0.67
        case [skewness, what]:
            shape = 4 / int(skewness) ** 2  # of a gamma distribution
            skewed: Array = (random.gamma(shape, size=size) - shape) / shape**0.5
            return skewed if what == "gains" else -skewed
    raise ValueError(gains)


def simulate(case: Case, streams: int = 10_000, ideas: int = IDEAS, seed: int = 0) -> Simulated:
    """Run that many streams, all at once."""
    random, rows = np.random.default_rng(seed), np.arange(streams)
    counts = {rule: np.zeros((2, streams)) for rule in Simulated._fields[:3]}  # false and real rungs
    failures, failed_effects = np.full((streams, ideas), -np.inf), np.zeros((streams, ideas))
    level, record = np.zeros(streams), draw(random, case.gains, (streams,))  # the champion of keep-if-better
    given = spent = 0
    for attempt in range(1, ideas + 1):
        effect = np.where(random.random(streams) < case.real, random.choice(case.effects, streams), 0.0)
        if case.resubmits and attempt % 2 == 0:
            best = failures.argmax(1)
            again = failures[rows, best] > -np.inf
            effect = np.where(again, failed_effects[rows, best], effect)
            failures[rows, best] = -np.inf
        given += int((effect > 0).sum())
        gains = draw(random, case.gains, (streams, MOST)) + effect[:, None]
        needed = np.array([evidence.threshold(attempt, rungs, ERROR) for rungs in range(attempt)])
        accepts, hopeless = evidence.looks(gains, needed[counts["ladder"].sum(0).astype(int)], AT_LEAST, MOST)
        stops = accepts | hopeless
        end = np.where(stops.any(1), stops.argmax(1), MOST - 1)
        eight = draw(random, case.gains, (streams, EIGHT)) + effect[:, None]
        t = eight.mean(1) / eight.std(1, ddof=1) * EIGHT**0.5
        score = level + effect + draw(random, case.gains, (streams,))
        accepted = {"ladder": accepts[rows, end], "fixed": t > -stdtrit(EIGHT - 1, ERROR), "keep": score > record}
        for rule, accepts_it in accepted.items():
            counts[rule] += np.stack([accepts_it & (effect == 0), accepts_it & (effect > 0)])
        spent += int((end + 1).sum())
        failures[:, attempt - 1] = np.where(accepted["ladder"], -np.inf, evidence.log_e(gains).max(1))
        failed_effects[:, attempt - 1] = effect
        level = np.where(accepted["keep"], level + effect, level)
        record = np.maximum(record, score)
    shares = []
    for false, real in counts.values():
        proportion = false / np.maximum(false + real, 1)
        spread = float(proportion.std()) / streams**0.5
        found = float(real.sum()) / max(given, 1)
        shares.append(
            Share(float(proportion.mean()), spread, float((false > 0).mean()), found, float((false + real).mean()))
        )
    ladder, fixed, keep = shares
    return Simulated(ladder, fixed, keep, spent / (streams * ideas), float((record - level).mean()))


def table(streams: int = 10_000) -> str:
    """A row for each of CASES, in Markdown."""
    heads = [
        "ideas",
        "ladder: false",
        "real ones found",
        "seeds an idea",
        "t test: false",
        "found",
        "keep-if-better: false",
        "found",
    ]
    rows = []
    for case in CASES:
        done = simulate(case, streams)
        pairs = [[f"{rule.false:.3f}", f"{rule.real:.2f}" if case.real else "-"] for rule in done[:3]]
        rows.append([case.name, *pairs[0], f"{done.seeds:.1f}", *pairs[1], *pairs[2]])
        print(case.name, done, file=sys.stderr, flush=True)
    return render.markdown([Chapter("", [Table(heads, rows, text_columns=range(1))])])


def attempts(gains: Array, needed: Array | float, refuses: Truth, waits: Truth) -> tuple[Truth, Truth, Array]:
    """Whether each attempt, (trials, MOST), is accepted; whether ``refuses`` ended it; and its last place."""
    accepts, hopeless = evidence.looks(gains, needed, AT_LEAST, MOST)
    accepted, refused = accepts & ~waits & ~refuses, refuses | (hopeless & ~accepts)
    stops = accepted | refused
    end = np.where(stops.any(1), stops.argmax(1), MOST - 1)
    rows = np.arange(len(gains))
    held = accepts[rows, end] & ~refuses[rows, end] & (end == MOST - 1)
    return accepted[rows, end] | held, refuses[rows, end], end


def guarded(noise: float, harm: float, trials: int = 4000, few: int = 0) -> float:
    """The share of entries, better by 3 sd, that a guard refuses. noise, harm: as shares of the metric's mean; the
    margin is .013. few: the seeds behind the champion's mean under kind ``target``; 0 under kind ``score``."""
    random = np.random.default_rng(0)
    before = random.standard_normal((trials, MOST))
    if few:
        before[:] = random.standard_normal((trials, few)).mean(1, keepdims=True)
    log = evidence.log_e(harm - 0.013 + noise * (random.standard_normal((trials, MOST)) - before))
    gains = random.standard_normal((trials, MOST)) + 3
    return float(attempts(gains, 500.0, log >= -math.log(ERROR), log > 0)[1].mean())


def collapsing(share: float, streams: int = 400) -> float:
    """The mean number of rungs of IDEAS that gain 1 (sd 1) but lose as much in all, on a share of the seeds."""
    random, rungs = np.random.default_rng(0), np.zeros(streams, int)
    for attempt in range(1, IDEAS + 1):
        lost = random.random((streams, MOST)) < share
        gains = np.where(lost, 1 - 1 / share, 1.0) + random.standard_normal((streams, MOST))
        needed = np.array([evidence.threshold(attempt, count, ERROR) for count in range(attempt)])[rungs]
        refuses = evidence.collapses(gains) & (np.arange(MOST) >= AT_LEAST - 1)
        rungs += attempts(gains, needed, refuses, np.zeros_like(refuses))[0]
    return float(rungs.mean())


if __name__ == "__main__":
    for noise in (0.02, 0.1, 0.3):
        shares = ", ".join(f"{harm:.1%} worse {guarded(noise, harm):.3f}" for harm in (0.0, 0.013, 0.05, 0.15))
        print(f"a guard with noise of {noise:.0%} refuses: {shares}; of kind target {guarded(noise, 0.013, few=6):.3f}")
    print(f"rungs of ideas that lose on 5% of seeds: {collapsing(0.05):.1f} of {IDEAS}")
    print(table(*map(int, sys.argv[1:])))
