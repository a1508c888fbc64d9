"""What a study decides at which look, and how often anything in its table is false."""

import math

import numpy as np
import pytest

from ddpm.runs.record import Record
from ddpm.study import judging
from ddpm.verdicts import statistics, verdict
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.verdict import PRIMARY, Verdict
from tests.scored import rescored, result, study

FD = "classifier.fd"
ALPHA = 0.05
LOOKS = (8, 12, 16, 20)
Runs = dict[str, dict[int, Record]]
# a run of each schedule, to be given scores and seeds: checking a run's params takes longer than anything else here
MADE = {schedule: result(schedule) for schedule in ("cosine", "linear")}


def noise(count: int, seed: int = 0) -> Array:
    """The noise of so many seeds, with mean 0 and standard deviation 1 at each look."""
    drawn = np.random.default_rng(seed).standard_normal(max(LOOKS))
    for start, end in ((0, 8), (8, 12), (12, 16), (16, 20)):
        part = drawn[start:end] - drawn[start:end].mean()
        drawn[start:end] = part / part.std()
    return drawn[:count]


def runs(gaps, metric: str = FD, first: int = 0, baseline: float = 1.0, **other: float) -> Runs:
    """Runs of cosine, and of linear, which differs by the gaps; ``other``: a difference in another metric."""
    found: Runs = {"cosine": {}, "linear": {}}
    for place, gap in enumerate(gaps):
        seed, score = first + place, baseline + 0.1 * math.sin(place)
        alike = {f"classifier.{name}": 0.5 + 0.001 * place for name in other}
        differing = {name: value + other[name.partition(".")[2]] for name, value in alike.items()}
        found["cosine"][seed] = rescored(MADE["cosine"], seed, {metric: score, **alike})
        found["linear"][seed] = rescored(MADE["linear"], seed, {metric: score + gap, **differing})
    return found


def judged(found: Runs, **plan):
    _, *others = found
    arms = [Arm(name, {"diffusion.schedule.name": name}, of_arm) for name, of_arm in found.items()]
    return judging.of_arms(study(*others, **plan), arms)


def primary(judgement, arm: str = "linear") -> Verdict:
    (one,) = [each for each in judgement.verdicts if each.arm == arm and each.metric == judgement.primary]
    return one


CLEAR = 0.3 + 0.05 * noise(20)


@pytest.mark.parametrize("seeds", [0, 1, 7])
def test_before_the_first_look_nothing_is_tested(seeds):
    result = judged(runs(CLEAR[:seeds]))
    assert (result.open, result.next_look, len(result.verdicts)) == (("cosine", "linear"), 8, min(seeds, 1))
    for row in result.verdicts:
        assert (row.outcome, row.look, row.p, row.low) == ("not yet", None, None, None)
        assert len(row.seeds) == seeds


def test_a_clear_gap_is_decided_at_the_first_look_and_stays_so_whatever_later_seeds_do():
    result = judged(runs(CLEAR[:8]))
    row = primary(result)
    assert (row.outcome, row.look, row.seeds) == ("worse", 8, tuple(range(8)))
    assert row.p < 0.001
    assert 0 < row.low < row.difference < row.high
    assert (result.open, result.next_look) == ((), None)
    assert judged(runs([*CLEAR[:8], *(-2 * CLEAR[8:])])).verdicts == result.verdicts


@pytest.mark.parametrize("seeds", [12, 15])
def test_a_number_of_seeds_that_is_no_look_is_not_judged(seeds):
    result = judged(runs([*(0.05 + 0.1 * noise(12)), *[9.0] * (seeds - 12)]))
    assert (primary(result).look, primary(result).outcome, result.next_look) == (12, "not yet", 16)
    assert primary(result).difference == pytest.approx(0.05)


def test_a_seed_that_is_missing_holds_up_the_look_and_others_take_no_part():
    found = runs(CLEAR)
    del found["linear"][3]
    assert (primary(judged(found)).outcome, judged(found).next_look) == ("not yet", 8)
    assert primary(judged(found)).seeds == tuple(seed for seed in range(20) if seed != 3)
    unplanned = {name: runs([-9.0] * 4)[name] | of_arm for name, of_arm in runs(CLEAR[:8], first=4).items()}
    assert primary(judged(unplanned, first_seed=4)).seeds == tuple(range(4, 12))


@pytest.mark.parametrize(
    ("gaussian", "outcome"), [(0.9, "too early"), (1.1, "worse"), (2.0, "worse"), (None, "worse"), (math.inf, "worse")]
)
def test_of_two_arms_that_a_gaussian_beats_none_is_better(gaussian, outcome):
    """They score 1 and 1.3. More seeds would not change that: the study is over."""
    scores = runs(CLEAR, precision=-0.2)
    for run in [run for of_arm in scores.values() for run in of_arm.values()]:
        if gaussian is not None:
            run.scores.update({f"yardsticks.gaussian.{FD}": gaussian, "yardsticks.gaussian.classifier.count": 720})
    result = judged(scores)
    assert (primary(result).outcome, primary(result).look, result.open) == (outcome, 8, ())
    assert (result.verdicts[1].outcome == "too early") == (outcome == "too early")
    assert verdict.exit_code(result.verdicts, FD) == (verdict.NO_ANSWER if outcome == "too early" else 0)
    assert any("no yardstick" in note for note in result.notes) == (gaussian is None)


def test_what_an_earlier_look_rejected_does_not_decide_a_later_one():
    """Both crossed at 8 seeds, where something else kept them from a verdict, and no longer do at 12."""
    within = -0.0195 + 0.0012 * noise(8)  # of the margin, which is 0.02, but too near to it to be equivalent
    assert primary(judged(runs(within))).outcome == "not yet"
    one = primary(judged(runs([*within, 0.5, 0.1, 0.9, 0.3])))
    assert (one.look, one.outcome) == (12, "not yet")
    assert one.p > ALPHA
    gaps = [-0.30, -0.34, -0.28, -0.36, -0.31, -0.33, -0.29, -0.35, 0.9, -0.2, 0.8, 0.6]
    found = runs(gaps, kid_mean=0.0)
    for seed, run in found["linear"].items():  # KID agrees from the ninth seed on
        run.scores["classifier.kid_mean"] += 0.01 if seed < 8 else -0.05
    assert primary(judged(found)).outcome in ("not yet", "futile")


def test_no_verdict_stands_beside_an_interval_that_contains_zero():
    """Whatever the effect, its drift from look to look, and a KID that disagrees now and then."""
    random, decided = np.random.default_rng(8), 0
    for _ in range(60):
        drift = np.repeat(random.normal(0, 0.1, 5), 4)
        gaps = random.normal(0, 0.2) + drift + 0.06 * random.standard_normal(20)
        found = runs(gaps, kid_mean=0.0)
        for seed, run in found["linear"].items():
            run.scores["classifier.kid_mean"] += float(0.02 * random.standard_normal() + 0.1 * gaps[seed])
        for row in judged(found).verdicts:
            if row.outcome in ("better", "worse"):
                decided += 1
                assert row.low * row.high > 0
                assert row.low * row.difference > 0
            assert (row.p > ALPHA) == (row.low <= 0 <= row.high)
    assert decided > 20


def test_equivalence_needs_the_sign_flips_of_the_shifted_differences_too():
    """Of exponential differences whose true mean is the margin, 0.02: the t tests alone exclude it."""
    gaps = [0.0252, 0.0141, 0.01, 0.0189, 0.0172, 0.0146, 0.016, 0.0106]
    test, alone = statistics.t_test(np.array(gaps), 0.02, 0.95), Design(LOOKS)
    assert alone.p(0, 2 * test.equivalence_p) / 2 <= ALPHA * PRIMARY
    assert primary(judged(runs(gaps))).outcome == "not yet"
    assert primary(judged(runs([gap - 0.003 for gap in gaps]))).outcome == "equivalent"


def test_secondary_metrics_end_with_the_primary_one():
    found = runs(CLEAR)
    for seed in range(20):  # the bits differ from the ninth seed on
        for name, extra in (("cosine", 0.0), ("linear", 0.02 + 0.5 * (seed > 7))):
            found[name][seed].scores["bits_per_dim"] = 3.0 + 0.2 * math.sin(2.5 * seed + (name == "linear")) + extra
    fd, bits = judged(found).verdicts
    assert (fd.look, bits.look, bits.outcome) == (8, 8, "inconclusive")
