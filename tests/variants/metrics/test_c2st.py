"""Fresh opponents tell samples from real images, and cannot tell real images from each other."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ddpm.data.processed import open_split
from ddpm.scoring.evaluate_params import C2st, Evaluate
from ddpm.scoring.networks.opponent_network import Opponents
from ddpm.variants.metrics.c2st import ClassifierTwoSample, measure_auc
from examples import sanity

CPU = torch.device("cpu")
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
