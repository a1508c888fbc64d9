"""Make the table of docs/ladder.md: streams of ideas, simulated through the functions that decide a ladder.

``python -m docs.make_ladder`` prints it, with what the page says of rare collapses and first attempts; 2,000
streams of 100 ideas for each row take some two minutes on one core.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from ddpm.report import render
from ddpm.report.blocks import Chapter, Table
from ddpm.verdicts import evidence
from ddpm.verdicts.evidence import ALIKE, PAIRS, RANKS, Evidence, Truth
from ddpm.verdicts.statistics import Array

ERROR, AT_LEAST, MOST, IDEAS, EIGHT = 0.05, 6, 32, 100, 8
FIRST = 8  # seeds after which most attempts have ended
TIGHT = 1 / 101  # the spread of a challenger whose standard deviation is a tenth of the champion's


class Share(NamedTuple):
    """What a rule did, over streams: false rungs among all (0 without rungs), with the standard error of that mean;
    real ideas among those that it was given."""

    false: float
    error: float
    real: float


class Simulated(NamedTuple):
    """The three rules, and the seeds that the ladder spends on an idea."""

    ladder: Share
    fixed: Share
    keep: Share
    seeds: float


class Case(NamedTuple):
    """Streams of ideas. noise: the distribution of either side's scores. real: the share of ideas with an effect, which
    is one of ``effects``, in standard deviations of the gains. resubmits: every other idea is the best failure so far.
    spread: the challenger's share of the variance of a gain. alike: the correlation by seed if both have half."""

    name: str
    noise: str = "normal"
    real: float = 0.0
    effects: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0)
    resubmits: bool = False
    spread: float = 0.5
    alike: float = ALIKE


CASES = (
    Case("none real"),
    Case("none real, best failures tried again", resubmits=True),
    Case("10% real", real=0.1),
    Case("10% real, best failures tried again", real=0.1, resubmits=True),
    Case("33% real", real=0.33),
    Case("33% real, 2 sd", real=0.33, effects=(2.0,)),
    Case("10% real, ties", "tied", real=0.1, resubmits=True),
    Case("none real, a third of the spread", spread=0.1, alike=0.0),
    Case("none real, a tenth of the spread", spread=TIGHT, alike=0.0),
    Case("none real, three times the spread", spread=0.9, alike=0.0),
    *(
        Case(f"{share}, skewness 2 to {what}", f"2 {what}", real, resubmits=bool(real), spread=1.0, alike=0.0)
        for what in ("losses", "gains")
        for share, real in (("none real", 0.0), ("10% real", 0.1))
    ),
)


def draw(random: np.random.Generator, noise: str, size: tuple[int, ...]) -> Array:
    """Noise of mean 0 and standard deviation 1."""
    match noise.split():
        case ["normal" | "tied"]:
            return random.standard_normal(size)
        case [skewness, what]:
            shape = 4 / int(skewness) ** 2  # of a gamma distribution
            skewed: Array = (random.gamma(shape, size=size) - shape) / shape**0.5
            return skewed if what == "gains" else -skewed
    raise ValueError(noise)


def run(random: np.random.Generator, case: Case, effect: Array, seeds: int) -> tuple[Array, Array]:
    """What both sides score, (streams, seeds), higher being better; gains have a standard deviation of 1."""
    size = (len(effect), seeds)
    both = (case.alike / (1 - case.alike) / 2) ** 0.5 * random.standard_normal(size)
    champion = both + (1 - case.spread) ** 0.5 * draw(random, case.noise, size)
    challenger = both + case.spread**0.5 * draw(random, case.noise, size) + effect[:, None]
    return (np.round(champion), np.round(challenger)) if case.noise == "tied" else (champion, challenger)


def attempts(rule: Evidence, champion: Array, challenger: Array, needed: Array | float) -> tuple[Truth, Array]:
    """Whether each attempt, (trials, MOST), is accepted, and its last place."""
    rows = np.arange(len(champion))
    accepted, end = np.zeros(len(rows), bool), np.full(len(rows), MOST - 1)
    for seeds in (FIRST, MOST):
        sides, e = (champion[rows, :seeds], challenger[rows, :seeds]), np.broadcast_to(needed, len(end))[rows]
        accepts, hopeless = rule.look(*sides, e, AT_LEAST, MOST)
        collapses = evidence.collapses(sides[1] - sides[0]) & (np.arange(seeds) >= AT_LEAST - 1)
        accepts = accepts & ~collapses
        stops = accepts | collapses | hopeless
        stops[:, MOST - 1 :] = True
        place = stops.argmax(1)
        stopped, at = stops.any(1), (np.arange(len(rows)), place)
        accepted[rows], end[rows] = accepts[at], place
        rows = rows[~stopped]
    return accepted, end


def simulate(case: Case, streams: int = 2000, ideas: int = IDEAS, seed: int = 0, rule: Evidence = PAIRS) -> Simulated:
    """Run that many streams, all at once."""
    random, rows = np.random.default_rng(seed), np.arange(streams)
    counts = {rule: np.zeros((2, streams)) for rule in Simulated._fields[:3]}  # false and real rungs
    failures, failed_effects = np.full((streams, ideas), -np.inf), np.zeros((streams, ideas))
    level = np.zeros(streams)  # the champion of keep-if-better
    record = run(random, case, level, 1)[1][:, 0]
    given = spent = 0
    for attempt in range(1, ideas + 1):
        effect = np.where(random.random(streams) < case.real, random.choice(case.effects, streams), 0.0)
        if case.resubmits and attempt % 2 == 0:
            best = failures.argmax(1)
            again = failures[rows, best] > -np.inf
            effect = np.where(again, failed_effects[rows, best], effect)
            failures[rows, best] = -np.inf
        given += int((effect > 0).sum())
        champion, challenger = run(random, case, effect, MOST)
        needed = np.array([evidence.threshold(attempt, rungs, ERROR) for rungs in range(attempt)])
        became, end = attempts(rule, champion, challenger, needed[counts["ladder"].sum(0).astype(int)])
        before, after = run(random, case, effect, EIGHT)
        eight = after - before
        t = eight.mean(1) / np.maximum(eight.std(1, ddof=1), 1e-9) * EIGHT**0.5
        score = level + run(random, case, effect, 1)[1][:, 0]
        accepted = {"ladder": became, "fixed": t > -stdtrit(EIGHT - 1, ERROR), "keep": score > record}
        for name, accepts_it in accepted.items():
            counts[name] += np.stack([accepts_it & (effect == 0), accepts_it & (effect > 0)])
        spent += int((end + 1).sum())
        failures[:, attempt - 1] = np.where(became, -np.inf, evidence.log_e(challenger - champion)[rows, end])
        failed_effects[:, attempt - 1] = effect
        level = np.where(accepted["keep"], level + effect, level)
        record = np.maximum(record, score)
    shares = []
    for false, real in counts.values():
        proportion = false / np.maximum(false + real, 1)
        spread = float(proportion.std()) / streams**0.5
        shares.append(Share(float(proportion.mean()), spread, float(real.sum()) / max(given, 1)))
    ladder, fixed, keep = shares
    return Simulated(ladder, fixed, keep, spent / (streams * ideas))


def table(streams: int = 2000) -> str:
    """A row for each of CASES, in Markdown."""
    ladders = [f"{what}, by {rule.name}" for rule in (RANKS, PAIRS) for what in ("false", "found", "seeds an idea")]
    rows = []
    for case in CASES:
        ranks, pairs = (simulate(case, streams, rule=rule) for rule in (RANKS, PAIRS))
        shares = (ranks.ladder, pairs.ladder, ranks.fixed, ranks.keep)
        cells = [[f"{each.false:.3f}", f"{each.real:.2f}" if case.real else "-"] for each in shares]
        rows.append([case.name, *cells[0], f"{ranks.seeds:.1f}", *cells[1], f"{pairs.seeds:.1f}", *cells[2], *cells[3]])
    heads = ["ideas", *ladders, "t test: false", "found", "keep-if-better: false", "found"]
    return render.markdown([Chapter("", [Table(heads, rows, text_columns=range(1))])])


def collapsing(share: float, gain: float, rule: Evidence, streams: int = 400) -> float:
    """The mean number of rungs of ideas that gain that much (sd 1) but lose as much in all, on a share of the seeds."""
    random, rungs = np.random.default_rng(0), np.zeros(streams, int)
    for attempt in range(1, IDEAS + 1):
        champion, challenger = run(random, Case(""), np.full(streams, gain), MOST)
        challenger -= gain * (random.random((streams, MOST)) < share) / share
        needed = np.array([evidence.threshold(attempt, count, ERROR) for count in range(attempt)])[rungs]
        rungs += attempts(rule, champion, challenger, needed)[0]
    return float(rungs.mean())


def prove(case: Case, effect: float, rule: Evidence, trials: int = 4000) -> tuple[float, float]:
    """How often a ladder's first attempt is accepted, and its mean number of seeds."""
    sides = run(np.random.default_rng(0), case, np.full(trials, effect), MOST)
    accepted, end = attempts(rule, *sides, evidence.threshold(1, 0, ERROR))
    return float(accepted.mean()), float(end.mean()) + 1


if __name__ == "__main__":
    for which in (PAIRS, RANKS):
        by = which.name
        print(f"{by}: of {IDEAS} ideas that gain 1 sd, lost on 5% of seeds, rungs: {collapsing(0.05, 1, which):.1f}")
        for size in Case("").effects:
            print(f"{by}: a first attempt, {size} sd, accepted and seeds:", *prove(Case(""), size, which))
    print(table(*map(int, sys.argv[1:])))
