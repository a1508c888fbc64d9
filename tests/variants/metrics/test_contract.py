"""Every metric declares what its scores mean, and they mean it."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import distances, frechet, limits, metric, scores
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from examples import sanity

CPU = torch.device("cpu")
EVERY = [metric.get(name) for name in variant.names("metrics")]
NAMES = [one.name for one in EVERY if isinstance(one, metric.FeatureMetric)]
BY_ROW = {"isc", "kid"}  # torch-fidelity draws their splits and subsets by row
SCORES = [score for one in EVERY for score in one.scores]
Images = NDArray[np.uint8]
Clean = Callable[[str], dict[str, float]]


def settings(*names: str) -> Evaluate:
    return Evaluate(extractors=("classifier",), metrics=names, kid_subsets=20, kid_subset_size=150)


def measure(name: str, fake: Features, real) -> dict[str, float]:
    return scores.score(fake, real, settings(name))


@pytest.fixture(scope="module")
def clean(real) -> Clean:
    """Of the held-out images, by metric, measured once."""
    return cache(lambda name: measure(name, real.held_out, real))


@pytest.fixture(scope="module")
def spoiled(digits, real, held_out) -> Callable[[str], Features]:
    """Their features, by damage, extracted once."""
    labels = open_split(digits, "test")[1]
    return cache(lambda damage: extract(real.network, DAMAGE[damage](held_out, labels), 64, CPU))


def judged(name: str, real) -> list[metric.Score]:
    """Those that it makes of this extractor's features."""
    other = {"fd": "fid", "fid": "fd"}[real.extractor.frechet]
    return [score for score in metric.get(name).scores if not score.of and score.name != other]


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_a_score_has_a_direction_and_a_floor_or_is_another_estimate_of_one(score):
    assert score.direction in get_args(metric.Direction)
    assert set(score.sees) <= DAMAGE.keys()
    assert (score.floor is None) == bool(score.of)
    assert not score.of or score.of in {other.name for other in SCORES if not other.of}


@pytest.mark.parametrize("name", NAMES)
def test_it_makes_what_it_declares_and_the_same_again(name, real, clean):
    found = clean(name)
    assert {score.name for score in judged(name, real)} <= found.keys()
    assert measure(name, real.held_out, real) == found


@pytest.mark.parametrize("name", NAMES)
def test_too_few_images_are_refused_in_one_line_and_enough_are_scored(name, real):
    chosen = settings(name)
    least, why = metric.get(name).least(chosen, real.extractor.dimensions)
    with pytest.raises(UserError, match=rf"sample\.count: {least - 1} images .* '{name}' .* at least {least} ") as told:
        limits.check_counts(chosen, {"sample.count": least - 1})
    assert why in str(told.value)
    assert "\n" not in str(told.value)
    limits.check_counts(chosen, {"sample.count": least})
    assert limits.possible_metrics(chosen, real.extractor, least).metrics == (name,)
    assert limits.possible_metrics(chosen, real.extractor, least - 1).metrics == ()
    few = Features(*(part[:least] for part in real.held_out))
    assert np.isfinite(list(measure(name, few, real).values())).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_large_set_is_scored_like_a_small_one(name, real, clean, monkeypatch):
    usual = clean(name)
    monkeypatch.setattr(distances, "MOST", 500)  # of the real images, only a part is looked at
    large = replace(real, **frechet.statistics(real.features))
    found = measure(name, real.held_out, large)
    # kid then draws its subsets from another part
    assert found == pytest.approx(usual, rel=0.2 if name == "prc" else 1e-4, abs=0.05 if name == "kid" else 1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BY_ROW])
def test_the_order_of_images_does_not_matter(name, real, clean):
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(real.held_out.features)))
    shuffled = Features(*(part[order] for part in real.held_out))
    expected = clean(name)
    assert measure(name, shuffled, real) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if metric.get(name).compares])
def test_the_train_images_themselves_get_the_best_value(name, real):
    found = measure(name, Features(real.features, torch.zeros(len(real.features), 10)), real)
    for score in judged(name, real):
        best = 1 if score.is_share else 0
        assert found[score.name] == pytest.approx(best, abs=0.002 if name != "kid" else 0.1), score.name


DAMAGE: dict[str, Callable[[Images, NDArray[np.int64]], Images]] = {
    "dropped": lambda images, labels: images[labels != 3],
    "doubled": lambda images, labels: np.concatenate([images, images[labels == 3]]),
    "blur": lambda images, labels: sanity.blur(images, 1 / 16),
    "noise": lambda images, labels: sanity.add_noise(images, 1 / 8),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", NAMES)
def test_damage_that_a_score_claims_to_see_makes_it_worse_by_more_than_its_floor(name, damage, real, clean, spoiled):
    claimed = [score for score in judged(name, real) if damage in score.sees]
    if not claimed:
        pytest.skip("it claims nothing")
    found = measure(name, spoiled(damage), real)
    for score in claimed:
        change = found[score.name] - clean(name)[score.name]
        assert (change if score.direction == "lower" else -change) > (score.floor or 0), score.name
