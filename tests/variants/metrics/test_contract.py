"""Every metric declares what its scores mean, and they mean it. c2st: fresh opponents tell samples from real images,
and cannot tell real images from each other. mind: the distance along a line against sets of equal size, and of a shift
against its length."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import distances, frechet, limits, metric, scores
from ddpm.scoring.evaluate_params import C2st, Evaluate
from ddpm.scoring.features import Features, extract
from ddpm.scoring.networks.opponent_network import Opponents
from ddpm.variants.metrics.c2st import ClassifierTwoSample, measure_auc
from ddpm.variants.metrics.mind import Monge
from examples import sanity
from tests.small import CPU

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


def test_of_several_metrics_the_one_that_needs_the_most_images_is_named():
    """Or each number that the message names would bring the next one."""
    chosen = settings(*NAMES)
    most = max(metric.get(name).least(chosen, 64)[0] for name in NAMES)
    with pytest.raises(UserError, match=f"at least {most:,} "):
        limits.check_counts(chosen, {"sample.count": 4})


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


SETTINGS = Evaluate(extractors=("random_conv",), metrics=("c2st",), c2st=C2st(images=300, steps=120))


def measure_c2st(fake: np.ndarray, real: np.ndarray, **c2st: int) -> dict[str, float]:
    settings = SETTINGS.model_copy(update={"c2st": SETTINGS.c2st.model_copy(update=c2st)})
    return ClassifierTwoSample().measure(fake, real, settings, CPU)


@pytest.fixture(scope="module")
def train(digits) -> np.ndarray:
    return np.array(open_split(digits, "train")[0])


def test_the_auc_is_that_of_an_independent_implementation():
    generator = np.random.default_rng(0)
    real, fake = generator.integers(0, 9, 40) + 2.0, generator.integers(0, 9, 30) + 0.0  # with ties
    labels = np.r_[np.ones(40), np.zeros(30)]
    assert measure_auc(real, fake) == pytest.approx(roc_auc_score(labels, np.r_[real, fake]), abs=1e-12)


def test_real_images_cannot_be_told_from_others_and_a_blur_can(train, held_out):
    whole = measure_c2st(held_out, train)
    blurred = measure_c2st(sanity.blur(held_out, 1 / 16), train)
    assert whole["auc"] == pytest.approx(0.5, abs=0.08)
    assert whole["d_prime"] == pytest.approx(0, abs=0.3)
    assert blurred["auc"] > whole["auc"] + 0.15
    assert blurred["d_prime"] > 1


def test_a_network_never_judges_images_that_it_learned():
    """Noise can only be learned by heart, which long enough a training does: on other noise that helps nobody."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8), dtype=np.uint8)
    assert measure_c2st(noise[:40], noise[40:], images=40, steps=400, repeats=4)["auc"] == pytest.approx(0.5, abs=0.2)


def test_it_is_a_function_of_the_images_alone(train, held_out):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = measure_c2st(held_out, train, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    torch.set_num_threads(2)
    assert measure_c2st(held_out, train, steps=5) == one
    assert torch.get_num_threads() == 2


def test_networks_side_by_side_know_nothing_of_each_other():
    torch.manual_seed(0)
    networks = Opponents(3, 2, 16, 12).eval()
    images = torch.randn(4, 3, 2, 16, 12, requires_grad=True)
    networks(images)[:, 1].sum().backward()
    used = images.grad.abs().sum((0, 2, 3, 4))
    assert used[1] > 0
    assert used[[0, 2]].tolist() == [0, 0]


def measure_mind(fake: np.ndarray, real: np.ndarray) -> float:
    images = (Features(torch.from_numpy(one).float(), torch.zeros(len(one), 0)) for one in (fake, real))
    return Monge().measure(*images, SimpleNamespace())["mind"]


def test_of_one_feature_mind_is_the_distance_of_sorted_values_each_repeated_to_equal_numbers():
    generator = np.random.default_rng(0)
    fake, real = generator.normal(size=(7, 1)), generator.normal(size=(4, 1)) ** 2
    matched = [np.sort(one.astype(np.float32).ravel().repeat(times)) for one, times in ((fake, 4), (real, 7))]
    assert measure_mind(fake, real) == pytest.approx(np.square(matched[0] - matched[1]).mean(), rel=1e-6)


def test_in_mind_a_shift_counts_its_squared_length_and_a_scale_the_features_it_moves():
    features = np.random.default_rng(0).normal(size=(300, 6))
    shift = np.array([3.0, 0, 0, 0, -4, 0])
    assert measure_mind(features + shift, features) == pytest.approx(25, rel=0.1)
    # along each direction x becomes 1.5 x: 0.25 of the second moment, over all features
    assert measure_mind(1.5 * features, features) == pytest.approx(0.25 * np.square(features).sum(1).mean(), rel=0.05)
