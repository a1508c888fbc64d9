"""Several eyes on one scale."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.scoring import yardsticks
from ddpm.scoring.features import Features
from ddpm.scoring.panel import combine, measure_panel, measure_share

SHARE = st.floats(0, 100)


def test_held_out_images_are_at_0_and_the_yardstick_at_1(real):
    drawn = real.yardsticks[yardsticks.PER_CLASS]
    count = len(real.held_out.features)
    assert measure_share(real.held_out, real) == pytest.approx(0, abs=1e-9)
    assert measure_share(Features(*(part[-count:] for part in drawn)), real) == pytest.approx(1, abs=0.25)
    far = Features(*(part[-count:] for part in real.yardsticks[yardsticks.GAUSSIAN]))
    assert measure_share(far, real) > 5  # where the images have classes, one Gaussian per class is the yardstick


def test_an_eye_that_takes_the_yardstick_for_real_still_tells_bad_from_good(real):
    """Linear features of photographs do: the yardstick has the train images' mean and covariance."""
    train = Features(real.features, real.features[:, :0])
    blind = replace(real, yardsticks=real.yardsticks | {yardsticks.PER_CLASS: train})
    assert measure_share(real.yardsticks[yardsticks.GAUSSIAN], blind) > 5
    assert abs(measure_share(train, blind)) <= 1 + 1e-9


def test_fewer_train_images_than_held_out_ones_have_a_scale(real):
    few = replace(real, features=real.features[: len(real.held_out.features) // 2])
    assert measure_share(real.held_out, few) == pytest.approx(0, abs=1e-9)
    assert measure_share(real.yardsticks[yardsticks.PER_CLASS], few) == pytest.approx(1, abs=0.25)


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
