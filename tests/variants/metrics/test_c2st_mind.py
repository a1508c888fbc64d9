"""c2st: fresh opponents tell samples from real images, and cannot tell real images from each other. mind: the distance
along a line against sets of equal size, and of a shift against its length."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ddpm.data.processed import open_split
from ddpm.scoring.evaluate_params import C2st, Evaluate
from ddpm.scoring.features import Features
from ddpm.scoring.networks.opponent_network import Opponents
from ddpm.variants.metrics.c2st import ClassifierTwoSample, measure_auc
from ddpm.variants.metrics.mind import Monge
from examples import sanity
from tests.small import CPU

SETTINGS = Evaluate(extractors=("random_conv",), metrics=("c2st",), c2st=C2st(images=300, steps=120))


def measure(fake: np.ndarray, real: np.ndarray, **c2st: int) -> dict[str, float]:
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
    whole = measure(held_out, train)
    blurred = measure(sanity.blur(held_out, 1 / 16), train)
    assert whole["auc"] == pytest.approx(0.5, abs=0.08)
    assert whole["d_prime"] == pytest.approx(0, abs=0.3)
    assert blurred["auc"] > whole["auc"] + 0.15
    assert blurred["d_prime"] > 1


def test_a_network_never_judges_images_that_it_learned():
    """Noise can only be learned by heart, which long enough a training does: on other noise that helps nobody."""
    noise = np.random.default_rng(0).integers(0, 256, (80, 1, 8, 8), dtype=np.uint8)
    assert measure(noise[:40], noise[40:], images=40, steps=400, repeats=4)["auc"] == pytest.approx(0.5, abs=0.2)


def test_it_is_a_function_of_the_images_alone(train, held_out):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = measure(held_out, train, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    torch.set_num_threads(2)
    assert measure(held_out, train, steps=5) == one
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
