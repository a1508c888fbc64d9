"""docs/by_size.py: how an effect changes with the size of the network."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from docs import by_size
from docs.atlas_text import percent

WEIGHTS = (164_852, 652_772, 2_597_828)
SEEDS = 8
DRAWS = 500


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


def test_the_last_budget_has_the_verdict_s_effect(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    studies = sorted(Path("metrics/studies").glob(f"{by_size.PREFIX}*/verdict.json"))
    assert studies
    for path in studies:
        judged = json.loads(path.read_text())
        found = by_size.of_study(path.parent.name, judged)
        for verdict in (each for each in judged["verdicts"] if each["metric"] == judged["primary"]):
            key = max(at for at in found.cells if at[0] == verdict["arm"])
            effect = percent(verdict["relative"])
            assert found.cells[key] == (f"**{effect}**" if verdict["outcome"] in ("better", "worse") else effect)
            ratios = np.divide(verdict["arm_scores"], verdict["baseline_scores"])
            assert list(found.logs[key]) == verdict["seeds"]
            assert np.exp(list(found.logs[key].values())) == pytest.approx(ratios)
