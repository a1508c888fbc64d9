"""Draws of Gaussians fitted to the train images; and several eyes on the scale that they give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddpm.scoring import yardsticks
from ddpm.scoring.features import Features
from ddpm.scoring.panel import combine, measure_panel, measure_share
from ddpm.scoring.yardsticks import GAUSSIAN, PER_CLASS

DRAW = np.random.default_rng(0)


def images(count: int, centre: float = 128, sd: float = 8, shape: tuple[int, ...] = (2, 3, 2)) -> np.ndarray:
    """Images whose pixels are strongly correlated, far from the ends of the range."""
    shared = DRAW.normal(0, sd, (count, 1, 1, 1))
    return (centre + 2 * shared + DRAW.normal(0, sd, (count, *shape))).round().clip(0, 255).astype(np.uint8)


def test_draws_have_the_mean_and_the_covariance_of_the_pixels(monkeypatch):
    monkeypatch.setattr(yardsticks, "ROWS", 300)  # so that blocks matter
    train = images(700)
    drawn = yardsticks.gaussian(train, np.arange(700), torch.arange(8000), "test")
    assert (drawn.shape, drawn.dtype) == ((8000, 2, 3, 2), np.uint8)
    ours, theirs = (np.cov(part.reshape(len(part), -1).T.astype(float)) for part in (drawn, train))
    np.testing.assert_allclose(drawn.mean(0), train.mean(0), atol=0.8)
    np.testing.assert_allclose(ours, theirs, atol=0.06 * theirs.max())


def test_draws_are_clipped_and_one_image_is_its_own_gaussian():
    wild = np.where(DRAW.random((50, 1, 4, 4)) < 0.5, 0, 255).astype(np.uint8)
    drawn = yardsticks.gaussian(wild, np.arange(50), torch.arange(100), "test")
    assert {0, 255} <= set(np.unique(drawn))
    alone = yardsticks.gaussian(wild, np.array([7]), torch.arange(3), "test")
    np.testing.assert_array_equal(alone, wild[[7, 7, 7]])


def test_classes_come_in_their_shares_and_each_from_its_own_images():
    train = np.concatenate([images(300, centre=60), images(100, centre=190)])
    labels = np.repeat([3, 5], [300, 100])
    drawn = yardsticks.draw(train, labels)
    assert {name: part.shape for name, part in drawn.items()} == dict.fromkeys((GAUSSIAN, PER_CLASS), (1500, 2, 3, 2))
    bright = drawn[PER_CLASS].mean(axis=(1, 2, 3)) > 125
    assert bright.mean() == pytest.approx(0.25, abs=0.04)
    assert drawn[PER_CLASS][~bright].mean() == pytest.approx(60, abs=3)
    middle = np.abs(drawn[GAUSSIAN].mean(axis=(1, 2, 3)) - 125) < 25
    assert middle.mean() > 0.2, "one Gaussian of both draws what neither has"
    assert yardsticks.draw(train, np.zeros(400, np.int64)).keys() == {GAUSSIAN}


def test_a_draw_depends_on_its_number_alone(monkeypatch):
    train, labels = images(40), np.arange(40) % 2
    whole = yardsticks.draw(train, labels)
    monkeypatch.setattr(yardsticks, "FEWEST", 70)
    for name, drawn in yardsticks.draw(train, labels).items():
        np.testing.assert_array_equal(drawn, whole[name][:70])


SHARE = st.floats(0, 100)


def test_held_out_images_are_at_0_and_the_yardstick_at_1(real):
    drawn = real.yardsticks[PER_CLASS]
    count = len(real.held_out.features)
    assert measure_share(real.held_out, real) == pytest.approx(0, abs=1e-9)
    assert measure_share(Features(*(part[-count:] for part in drawn)), real) == pytest.approx(1, abs=0.25)
    far = Features(*(part[-count:] for part in real.yardsticks[GAUSSIAN]))
    assert measure_share(far, real) > 5  # where the images have classes, one Gaussian per class is the yardstick


def test_an_eye_that_takes_the_yardstick_for_real_still_tells_bad_from_good(real):
    """Linear features of photographs do: the yardstick has the train images' mean and covariance."""
    train = Features(real.features, real.features[:, :0])
    blind = replace(real, yardsticks=real.yardsticks | {PER_CLASS: train})
    assert measure_share(real.yardsticks[GAUSSIAN], blind) > 5
    assert abs(measure_share(train, blind)) <= 1 + 1e-9


def test_fewer_train_images_than_held_out_ones_have_a_scale(real):
    few = replace(real, features=real.features[: len(real.held_out.features) // 2])
    assert measure_share(real.held_out, few) == pytest.approx(0, abs=1e-9)
    assert measure_share(real.yardsticks[PER_CLASS], few) == pytest.approx(1, abs=0.25)


def test_all_eyes_are_combined_and_one_is_no_panel(real):
    eyes = measure_panel({"classifier": real.held_out}, {"classifier": real}, {"d_prime": 0.5}, {"d_prime": 2.0})
    assert eyes.keys() == {"classifier", "c2st", "score"}
    assert eyes["c2st"] == 0.25
    assert eyes["score"] == combine([eyes["classifier"], 0.25])
    assert measure_panel({"classifier": real.held_out}, {"classifier": real}, {}, {"d_prime": 2.0}) == {}


@given(st.lists(SHARE, min_size=2, max_size=5), st.integers(0, 4), st.floats(0.01, 10))
def test_a_worse_eye_makes_the_score_worse_and_equal_eyes_are_the_score(shares, place, more):
    place %= len(shares)
    worse = [share + more * (n == place) for n, share in enumerate(shares)]
    assert combine(worse) > combine(shares)
    assert combine(shares[:1] * 3) == pytest.approx(shares[0], abs=1e-9)
    assert combine(shares) <= max(shares) + 1e-9


def test_an_eye_that_sees_better_than_real_does_not_make_up_for_another():
    assert combine([-0.47, 0.56]) == combine([0, 0.56]) > combine([-0.47, 0])
