"""A study's verdict at each budget: the band, how often it is wrong, and what it says in words."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from ddpm.base.files import write_json
from ddpm.runs import alike as all_runs
from ddpm.runs.alike import Run
from ddpm.study import curves, verdict
from ddpm.study.plan import Plan, Study
from ddpm.verdicts.curves import Curves, critical
from ddpm.verdicts.statistics import Array, t_test
from tests.scored import Experiment, record, result, working

FD = "classifier.fd"
IMAGES = (16, 32, 64, 96)
SEEDS = 8
SCHEDULES = ("cosine", "linear", "sigmoid")
MADE = {schedule: result(schedule) for schedule in SCHEDULES}


def study(*variants: str, **changes: Any) -> Study:
    names = ("cosine", *(variants or ("linear",)))
    plan = Plan(question="Which?", variants={name: {"diffusion.schedule.name": name} for name in names}, **changes)
    return Study("s", plan, {}, {name: working(diffusion__schedule={"name": name}) for name in names})


def runs(schedule: str, scores: Array) -> dict[int, Run]:
    """scores: (seeds, budgets)."""
    made = MADE[schedule]
    return {
        seed: replace(
            made,
            seed=seed,
            name=f"{schedule}-{seed}",
            scores={FD: row[-1]},
            curve={at: {FD: score} for at, score in zip(IMAGES, row, strict=True)},
        )
        for seed, row in enumerate(scores.tolist())
    }


def found(*means: Sequence[float], noise: float = 0.01, seeds: int = SEEDS) -> dict[str, dict[int, Run]]:
    """Runs of the schedules with these mean scores at each budget, to the last digits."""
    random, made = np.random.default_rng(0), {}
    for schedule, mean in zip(SCHEDULES, means, strict=False):
        drawn = random.standard_normal((seeds, len(IMAGES)))
        made[schedule] = runs(schedule, np.array(mean) + noise * (drawn - drawn.mean(0)))
    return made


def judged(*means: Sequence[float], look: int | None = 8, **options: Any) -> Curves:
    given = found(*means, **options)
    made = curves.curves(study(*list(given)[1:]), given, dict.fromkeys(given, look))
    assert made
    return made


def outcomes(of: Curves, place: int = 0) -> list[str]:
    return [point.outcome for point in of.against[place].points]


LEVEL = [2.0, 1.5, 1.2, 1.1]


def correlation(rho: float) -> Array:
    return rho ** np.abs(np.subtract.outer(range(4), range(4)))


# --- the band


@pytest.mark.parametrize(("rho", "seeds"), [(0.5, 8), (0.9, 8), (0.9, 16)])
def test_a_band_is_wrong_anywhere_as_rarely_as_it_says(rho: float, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "DRAWS", 2**10)
    curves._normals.cache_clear()
    trials, alpha = 400, 0.05
    root = np.linalg.cholesky(correlation(rho)) * [3.0, 2.0, 1.0, 1.0]  # early scores vary more
    drawn = np.random.default_rng(2).standard_normal((trials, seeds, 4)) @ root.T
    t = np.abs(drawn.mean(1)) / drawn.std(1, ddof=1) * math.sqrt(seeds)
    wrong = np.mean([each.max() > critical(gaps, alpha) for each, gaps in zip(t, drawn, strict=True)])
    curves._normals.cache_clear()
    assert 0.015 < wrong <= alpha + 3 * math.sqrt(0.0475 / trials)
    alone = t_test(drawn.swapaxes(1, 2), 0.0, 1 - alpha).p  # each budget by itself would be wrong more often
    assert (alone < alpha).any(1).mean() > wrong


def test_a_band_of_budgets_that_are_alike_is_narrower_than_bonferronis_and_wider_than_one_interval() -> None:
    alike = np.random.default_rng(0).standard_normal((SEEDS, 1)) + np.zeros(4)
    single, bonferroni = (-float(stdtrit(SEEDS - 1, level / 2)) for level in (0.05, 0.05 / 4))
    assert single < critical(alike, 0.05) < bonferroni
    apart = np.kron(np.eye(4), [[1.0], [-1.0]])  # without correlation the largest of four independent |t|
    assert critical(apart, 0.05) == pytest.approx(-stdtrit(SEEDS - 1, (1 - 0.95**0.25) / 2), rel=0.03)


def test_variants_and_looks_share_the_error_rate() -> None:
    """The second look's band is that of what the second look adds, for one of two variants."""
    given = found(LEVEL, LEVEL, LEVEL, noise=0.1, seeds=12)
    asked = study("linear", "sigmoid", looks=(8, 12))
    made = curves.curves(asked, given, {"linear": 12, "sigmoid": 8})
    assert made
    linear, sigmoid = made.against
    assert (len(linear.seeds), len(sigmoid.seeds)) == (12, 8)
    for each, before in ((linear, 8), (sigmoid, 0)):
        seeds = len(each.seeds)
        level = 0.025 * sum(sign * math.log1p((math.e - 1) * n / 12) for sign, n in ((1, seeds), (-1, before)))
        gaps = np.array([[given[each.variant][s].curve[at][FD] - given["cosine"][s].curve[at][FD] for at in IMAGES]
                         for s in range(seeds)])  # fmt: skip
        halves = critical(gaps, level) * gaps.std(0, ddof=1) / math.sqrt(seeds)
        for point, half, gap in zip(each.points, halves, gaps.mean(0), strict=True):
            assert (point.low, point.high) == (pytest.approx(gap - half), pytest.approx(gap + half))


def test_before_the_first_look_there_are_means_and_no_band() -> None:
    made = judged(LEVEL, [1.0, 1.0, 1.0, 1.0], look=None, seeds=3)
    assert [point.low for point in made.against[0].points] == [None] * 4
    assert outcomes(made) == ["open"] * 4


# --- in words


def test_a_crossing_is_said_where_the_bands_support_it() -> None:
    made = judged([2.0, 1.5, 1.2, 1.1], [1.5, 1.3, 1.205, 1.3])
    assert outcomes(made) == ["better", "better", "open", "worse"]
    assert curves.crossing(made.against[0], "cosine") == (
        "linear leads at 16 and 32 images; cosine leads at 96 images; open at 64 images; they cross between 32 and 96"
    )


def test_where_a_gaussian_beats_both_it_is_too_early() -> None:
    given = found([2.0, 1.5, 1.2, 1.1], [1.5, 1.3, 1.205, 1.3])
    for run in [run for runs in given.values() for run in runs.values()]:
        run.scores[f"yardsticks.gaussian.{FD}"] = 1.4
    made = curves.curves(study("linear"), given, {"linear": SEEDS})
    assert made
    assert outcomes(made) == ["too early", "better", "open", "worse"]
    assert "too early at 16 images" in curves.crossing(made.against[0], "cosine")


def test_a_crossing_of_the_means_alone_is_open() -> None:
    made = judged(LEVEL, [1.95, 1.47, 1.25, 1.15], noise=0.5)
    line = curves.crossing(made.against[0], "cosine")
    assert line.startswith("open at every budget; the means cross between")
    assert "leads" not in line


def test_what_is_nowhere_apart_is_equivalent() -> None:
    made = judged(LEVEL, LEVEL, noise=0.001)
    assert curves.crossing(made.against[0], "cosine") == "equivalent at every budget"


@pytest.mark.parametrize(
    ("means", "enough", "says"),
    [
        ([2.0, 1.11, 1.105, 1.1], 32, "more training stops paying after 32 images: mean FD there is within"),
        ([2.0, 1.0, 1.05, 1.1], 32, "more training stops paying after 32 images"),  # overfitted since
        ([2.0, 1.6, 1.2, 1.08], 96, "more training still pays: the last step, to 96 images, improves FD by 10%"),
    ],
)
def test_where_more_training_stops_paying(means: list[float], enough: int, says: str) -> None:
    made = judged(means, LEVEL, noise=0.0001)
    assert made.learned[0].enough == enough
    assert curves.paying(made.learned[0], FD).startswith(f"cosine: {says}")


# --- which budgets


def test_only_budgets_that_all_runs_have_are_compared() -> None:
    given = found(LEVEL, LEVEL)
    given["linear"][3] = replace(given["linear"][3], curve={at: {FD: 1.0} for at in (32, 48, 96)})
    made = curves.curves(study(), given, {"linear": 8})
    assert made
    assert [point.images for point in made.against[0].points] == [32, 96]
    assert [each.images for each in made.learned] == [IMAGES, (32, 96)]


def test_runs_without_snapshots_have_no_curve_and_a_score_that_is_no_number_no_point() -> None:
    given = found(LEVEL, LEVEL)
    empty = {name: {seed: replace(run, curve={96: run.scores}) for seed, run in arm.items()}
             for name, arm in given.items()}  # fmt: skip
    assert curves.curves(study(), empty, {"linear": 8}) is None
    assert curves.curves(study(), {"cosine": {}, "linear": {}}, {}) is None


CURVE = "images,classifier.fd,classifier.kid_mean\n16,2.5,\n96,1.0,0.01\n"


@pytest.mark.parametrize(
    ("text", "curve"),
    [
        (CURVE, {16: {FD: 2.5}, 96: {FD: 1.0, "classifier.kid_mean": 0.01}}),
        ("images\n", {}),
        (CURVE.replace("16", "soon"), "not scores by images seen (invalid literal"),
        (CURVE.replace("2.5", "nan"), "not scores by images seen (not a number after 16 images)"),
        (CURVE.replace("images", "steps"), "not scores by images seen ('images')"),
        (CURVE.replace("2.5,", "2.5,1,1"), "not scores by images seen"),
    ],
)
def test_a_run_has_its_curve_and_one_with_a_damaged_curve_is_left_out_by_name(
    text: str, curve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    record(tmp_path, [Experiment("plain"), Experiment("one", fd=1.5, files={"metrics/curve.csv": text})])
    gathered = all_runs.gather()
    learned = {run.name: run.curve for run in gathered.runs}
    if isinstance(curve, dict):
        assert learned == {"plain": {}, "one": curve}
    else:
        assert learned == {"plain": {}}
        assert gathered.notes[0].startswith(f"left out one: its metrics/ can't be read: metrics/curve.csv: {curve}")


def test_runs_that_differ_in_their_snapshots_alone_may_be_compared() -> None:
    asked = working(train__snapshots=[16])
    assert not all_runs.differences(MADE["cosine"].params, asked.flat())


def test_the_verdict_shows_its_curves_in_text_json_and_a_picture(tmp_path: Path) -> None:
    given = found(LEVEL, [1.5, 1.3, 1.205, 1.3])
    judgement = verdict.judge(study(), given)
    looks = {each.variant: each.look for each in judgement.findings}
    with_them = replace(judgement, curves=curves.curves(study(), given, looks))
    assert [each.outcome for each in with_them.findings] == ["worse"]  # the rule is about the end
    text = verdict.describe(with_them)
    assert "by budget, linear: linear leads at 16 and 32 images; cosine leads at 96 images" in text
    assert "linear against cosine by budget, classifier.fd, seeds 0 1 2 3 4 5 6 7" in text
    assert "| 16" in verdict.markdown(with_them)
    write_json(tmp_path / "verdict.json", verdict.to_dict(with_them))
    (against,) = json.loads((tmp_path / "verdict.json").read_text())["curves"]["against"]
    assert [point["images"] for point in against["points"]] == list(IMAGES)
    assert with_them.curves
    curves.draw(with_them.curves, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 10_000
