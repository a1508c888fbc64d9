"""A study's verdict at each budget: the band, how often it is wrong, and what it says in words."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import stdtrit

from ddpm.report import judgement as shown
from ddpm.runs.record import NumberTable, Record
from ddpm.study import judging
from ddpm.verdicts import curves
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.curves import Curves, simulate_critical
from ddpm.verdicts.statistics import Array, t_test
from tests.scored import rescored, result, study

FD = "classifier.fd"
IMAGES = (16, 32, 64, 96)
SEEDS = 8
SCHEDULES = ("cosine", "linear", "sigmoid")
MADE = {schedule: result(schedule) for schedule in SCHEDULES}
Runs = dict[str, dict[int, Record]]


def curve(scores: Sequence[float], images: Sequence[int] = IMAGES) -> dict[str, NumberTable]:
    return {"curve": NumberTable(columns={"images": tuple(map(float, images)), FD: tuple(map(float, scores))})}


def runs(*means: Sequence[float], noise: float = 0.01, seeds: int = SEEDS) -> Runs:
    """Runs of the schedules with these mean scores at each budget, to the last digits."""
    random, found = np.random.default_rng(0), {}
    for schedule, mean in zip(SCHEDULES, means, strict=False):
        drawn = random.standard_normal((seeds, len(IMAGES)))
        scores = (np.array(mean) + noise * (drawn - drawn.mean(0))).tolist()
        found[schedule] = {
            seed: rescored(MADE[schedule], seed, {FD: row[-1]}).model_copy(update=curve(row))
            for seed, row in enumerate(scores)
        }
    return found


def drawn(scores: Runs, at: dict[str, int | None], **plan) -> Curves | None:
    _, *others = scores
    return curves.measure_curves(arms(scores), at, judging.rules(study(*others, **plan), [FD]))


def arms(scores: Runs) -> list[Arm]:
    return [Arm(name, {"diffusion.schedule.name": name}, of_arm) for name, of_arm in scores.items()]


def judged(*means: Sequence[float], look: int | None = 8, **options) -> Curves:
    scores = runs(*means, **options)
    return drawn(scores, dict.fromkeys(scores, look))


def outcomes(of: Curves, place: int = 0) -> list[str]:
    return [point.outcome for point in of.against[place].points]


LEVEL = [2.0, 1.5, 1.2, 1.1]


def correlation(rho: float) -> Array:
    return rho ** np.abs(np.subtract.outer(range(4), range(4)))


@pytest.mark.parametrize(("rho", "seeds"), [(0.5, 8), (0.9, 8), (0.9, 16)])
def test_a_band_is_wrong_anywhere_as_rarely_as_it_says(rho, seeds, monkeypatch):
    monkeypatch.setattr(curves, "DRAWS", 2**10)
    curves._draw_moments.cache_clear()
    trials, alpha = 400, 0.05
    root = np.linalg.cholesky(correlation(rho)) * [3.0, 2.0, 1.0, 1.0]  # early scores vary more
    drawn = np.random.default_rng(2).standard_normal((trials, seeds, 4)) @ root.T
    t = np.abs(drawn.mean(1)) / drawn.std(1, ddof=1) * math.sqrt(seeds)
    wrong = np.mean([each.max() > simulate_critical(gaps, alpha) for each, gaps in zip(t, drawn, strict=True)])
    curves._draw_moments.cache_clear()
    assert 0.015 < wrong <= alpha + 3 * math.sqrt(0.0475 / trials)
    alone = t_test(drawn.swapaxes(1, 2), 0.0, 1 - alpha).p  # each budget by itself would be wrong more often
    assert (alone < alpha).any(1).mean() > wrong


def test_a_band_of_budgets_that_are_alike_is_narrower_than_bonferronis_and_wider_than_one_interval():
    alike = np.random.default_rng(0).standard_normal((SEEDS, 1)) + np.zeros(4)
    single, bonferroni = (-float(stdtrit(SEEDS - 1, level / 2)) for level in (0.05, 0.05 / 4))
    assert single < simulate_critical(alike, 0.05) < bonferroni
    apart = np.kron(np.eye(4), [[1.0], [-1.0]])  # without correlation the largest of four independent |t|
    assert simulate_critical(apart, 0.05) == pytest.approx(-stdtrit(SEEDS - 1, (1 - 0.95**0.25) / 2), rel=0.03)


def test_arms_and_looks_share_the_error_rate():
    """The second look's band is that of what the second look adds, for one of two arms."""
    found = runs(LEVEL, LEVEL, LEVEL, noise=0.1, seeds=12)
    made = drawn(found, {"linear": 12, "sigmoid": 8}, looks=(8, 12))
    linear, sigmoid = made.against
    assert (len(linear.seeds), len(sigmoid.seeds)) == (12, 8)
    for each, before in ((linear, 8), (sigmoid, 0)):
        seeds = len(each.seeds)
        level = 0.025 * sum(sign * math.log1p((math.e - 1) * n / 12) for sign, n in ((1, seeds), (-1, before)))
        means = {
            arm: [[found[arm][s].scores_by_images[at][FD] for at in IMAGES] for s in range(seeds)] for arm in found
        }
        gaps = np.subtract(means[each.arm], means["cosine"])
        halves = simulate_critical(gaps, level) * gaps.std(0, ddof=1) / math.sqrt(seeds)
        for point, half, gap in zip(each.points, halves, gaps.mean(0), strict=True):
            assert (point.low, point.high) == (pytest.approx(gap - half), pytest.approx(gap + half))


def test_before_the_first_look_there_are_means_and_no_band():
    made = judged(LEVEL, [1.0, 1.0, 1.0, 1.0], look=None, seeds=3)
    assert [point.low for point in made.against[0].points] == [None] * 4
    assert outcomes(made) == ["open"] * 4


CROSSING = [1.5, 1.3, 1.205, 1.3]


@pytest.mark.parametrize(
    ("arm", "noise", "expected"),
    [
        (CROSSING, 0.01, ["better", "better", "open", "worse"]),
        ([1.95, 1.47, 1.25, 1.15], 0.5, ["open"] * 4),
        ([2.0, 1.5, 1.2, 1.1], 0.001, ["equivalent"] * 4),
    ],
)
def test_an_arm_leads_as_far_as_the_bands_support_it(arm, noise, expected):
    assert outcomes(judged(LEVEL, arm, noise=noise)) == expected


def test_where_a_gaussian_beats_both_it_is_too_early():
    found = runs(LEVEL, CROSSING)
    for run in [run for of_arm in found.values() for run in of_arm.values()]:
        run.scores[f"yardsticks.gaussian.{FD}"] = 1.4
    made = drawn(found, {"linear": SEEDS})
    assert outcomes(made) == ["too early", "better", "open", "worse"]


def test_only_budgets_that_all_runs_have_are_compared():
    found = runs(LEVEL, LEVEL)
    found["linear"][3] = found["linear"][3].model_copy(update=curve([1.0] * 3, (32, 48, 96)))
    made = drawn(found, {"linear": 8})
    assert [point.images for point in made.against[0].points] == [32, 96]
    assert [each.images for each in made.learned] == [IMAGES, (32, 96)]
    empty = {name: {seed: run.model_copy(update=curve([1.0], [96])) for seed, run in of_arm.items()}
             for name, of_arm in found.items()}  # fmt: skip
    without = {name: {seed: run.model_copy(update={"curve": None}) for seed, run in of_arm.items()}
               for name, of_arm in found.items()}  # fmt: skip
    for nothing in (empty, without, {"cosine": {}, "linear": {}}):
        assert drawn(nothing, {"linear": None}) is None


def test_the_verdict_is_about_the_end_and_shows_its_curves():
    found = runs(LEVEL, CROSSING)
    judgement = judging.of_arms(study("linear"), arms(found))
    looks = {each.arm: each.look for each in judgement.verdicts}
    whole = replace(judgement, curves=drawn(found, looks))
    assert [each.outcome for each in whole.verdicts] == ["worse"]
    (against,) = json.loads(json.dumps(shown.to_dict(whole)))["curves"]["against"]
    assert [point["images"] for point in against["points"]] == list(IMAGES)
    assert "By budget" in [chapter.title for chapter in shown.chapters(whole, [])]
