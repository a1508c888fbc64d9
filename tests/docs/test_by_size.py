"""docs/by_size.py: how an effect changes with the size of the network."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm.study import loading
from docs import by_size
from docs.atlas_text import percent

WEIGHTS = (164_852, 652_772, 2_597_828)
SEEDS = 8
DRAWS = 500


@pytest.fixture
def judged(monkeypatch) -> dict[str, dict]:
    """Study -> its verdict; the working folder is the project's."""
    monkeypatch.chdir(Path(__file__).parents[2])
    return {path.parent.name: json.loads(path.read_text()) for path in Path().glob("metrics/studies/*/verdict.json")}


def drawn(seed: int, slope: float, sd: float, shared: float = 0.0) -> list[dict[int, float]]:
    """ln(arm / baseline) at each size: -0.5 at the smallest, noise of its own, and noise that a seed's sizes share."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, shared, SEEDS) if shared else 0.0
    steps = [math.log10(size / WEIGHTS[0]) for size in WEIGHTS]
    values = [-0.5 + slope * step + common + generator.normal(0, sd, SEEDS) for step in steps]
    return [dict(enumerate(row)) for row in values]


@given(st.integers(0, 10**6), st.floats(-2, 2), st.floats(0.001, 0.01, exclude_max=True))
def test_it_is_each_seed_s_regression_and_student_s_interval(seed, slope, error):
    """By two functions of SciPy's."""
    logs = drawn(seed, slope, 0.2)
    found = by_size.trend(WEIGHTS, [*logs[:2], logs[2] | {SEEDS: 9.0}], error)  # the last seed has one size
    slopes = [stats.linregress(np.log10(WEIGHTS), [row[k] for row in logs]).slope for k in range(SEEDS)]
    interval = stats.ttest_1samp(slopes, 0).confidence_interval(1 - error)
    assert (found.slope, found.low, found.high) == pytest.approx((np.mean(slopes), *interval))


@pytest.mark.parametrize(("slope", "word"), [(-0.5, "grows"), (0.3, "fades"), (1.0, "flips"), (0.0, "open")], ids=str)
def test_the_word_says_what_becomes_of_the_effect(slope, word):
    assert by_size.trend(WEIGHTS, drawn(1, slope, 0.02), 0.05).word == word


@pytest.mark.parametrize("shared", [0.0, 1.0], ids=["independent", "a seed's sizes share luck"])
def test_an_effect_that_stays_is_called_open_as_often_as_promised(shared):
    words = [by_size.trend(WEIGHTS, drawn(seed, 0.0, 0.2, shared), 0.05).word for seed in range(DRAWS)]
    wrong = sum(word != "open" for word in words)
    assert stats.binomtest(wrong, DRAWS, 0.05).pvalue > 0.001


def ends(small: np.ndarray, large: np.ndarray, early: int = 0) -> list[tuple[by_size.Size, by_size.Size]]:
    """The smallest and the largest network, from effects (arms, budgets); of ``early`` arms neither side is better than
    a Gaussian."""
    keys = [(f"arm {arm}", 8000 * (1 + budget)) for arm, budget in np.ndindex(small.shape)]
    sizes = [
        by_size.Size("d", weights, {}, {key: {0: effects[row // 2, row % 2]} for row, key in enumerate(keys)}, set())
        for weights, effects in ((WEIGHTS[0], small), (WEIGHTS[-1], large))
    ]
    sizes[1].early.update(keys[: 2 * early])
    return [tuple(sizes)]


def test_signs_are_counted_with_the_share_s_exact_interval():
    small = np.arange(1, 21).reshape(10, 2) + np.random.default_rng(0).normal(0, 1e-4, (10, 2))
    large = small.copy()
    large[0, 1] *= -1
    text = " ".join(by_size.carry_over(ends(small, large, early=3)).split())
    low, high = stats.beta.ppf(0.025, 19, 2), stats.beta.ppf(0.975, 20, 1)
    assert "19 of 20 effects" in text
    assert f"{low:.0%} to {high:.1%}" in text
    assert "14 of 14" in text


def test_the_slope_is_that_of_a_line_with_errors_in_both():
    """A regression of one on the other would find three quarters of it, or four thirds."""
    generator = np.random.default_rng(0)
    true = generator.normal(0, 1, (400, 2))
    small, large = (0.58 * generator.normal(0, 1, true.shape) + true for _ in range(2))
    assert stats.linregress(small.ravel(), large.ravel()).slope == pytest.approx(0.75, abs=0.05)
    found = re.search(
        r"slope of ([\d.]+) \(([\d.]+) to ([\d.]+),", " ".join(by_size.carry_over(ends(small, large)).split())
    )
    slope, low, high = map(float, found.groups())
    assert slope == pytest.approx(1, abs=0.05)
    assert low < 1 < high < low + 0.3


def test_the_page_quotes_how_many_signs_carry_over(judged):
    *_, note = by_size.parts(judged)
    counts = re.findall(r"\d+ of \d+", " ".join(note.text.split()))
    page = " ".join(Path("docs/atlas-size.md").read_text().split())
    assert counts
    assert all(count in page for count in counts)


def test_a_prediction_is_the_regression_s_with_the_textbook_s_interval():
    """Montgomery, Peck, Vining, Introduction to Linear Regression Analysis, equation 2.45."""
    generator = np.random.default_rng(0)
    small = generator.normal(0, 1, 12)
    large = 0.3 + 1.2 * small + generator.normal(0, 0.4, 12)
    line = stats.linregress(small, large)
    spread = large - line.intercept - line.slope * small
    error = math.sqrt((spread @ spread) / 10 * (1 + 1 / 12 + (2 - small.mean()) ** 2 / (11 * small.var(ddof=1))))
    mean, half = line.intercept + 2 * line.slope, stats.t.ppf(0.975, 10) * error
    chance = 1 - stats.t.sf(mean / error, 10)
    assert by_size.predict(small, large, 2.0) == pytest.approx((mean, mean - half, mean + half, chance))
    mirrored = by_size.predict(small, -large, 2.0)
    assert mirrored == pytest.approx((-mean, -mean - half, -mean + half, chance))


def test_the_forecast_is_that_of_the_studies_and_of_every_arm_of_the_plan(judged):
    table = by_size.forecast(judged)
    assert table.strip() in Path("docs/atlas-size.md").read_text(), "run `python -m docs.by_size`"
    _, *arms = loading.load(Path("studies/forecast_cifar10.yaml")).arms
    assert sorted(arms) == sorted(re.findall(r"^\| (\w+) \| [+-]", table, re.M))
    chances = [int(chance) for chance in re.findall(r"(\d+)% \|$", table, re.M)]
    assert round(sum(chances) / 100) == 8  # as the page has it


def test_the_last_budget_has_the_verdict_s_effect(judged):
    studies = {name: study for name, study in judged.items() if name.startswith(by_size.PREFIX)}
    assert studies
    for name, study in studies.items():
        found = by_size.of_study(name, study)
        for verdict in (each for each in study["verdicts"] if each["metric"] == study["primary"]):
            key = max(at for at in found.cells if at[0] == verdict["arm"])
            effect = percent(verdict["relative"])
            assert found.cells[key] == (f"**{effect}**" if verdict["outcome"] in ("better", "worse") else effect)
            ratios = np.divide(verdict["arm_scores"], verdict["baseline_scores"])
            assert list(found.logs[key]) == verdict["seeds"]
            assert np.exp(list(found.logs[key].values())) == pytest.approx(ratios)
