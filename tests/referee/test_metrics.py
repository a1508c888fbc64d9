"""The one table of scores and which direction is better."""

import pytest

from ddpm.referee import metrics


@pytest.mark.parametrize(
    ("name", "direction"),
    [("classifier.fd", "lower"), ("inception.fid", "lower"), ("x.is_mean", "higher"), ("bits_per_dim", "lower")],
)
def test_a_judged_score_has_a_direction(name, direction):
    assert metrics.is_judged(name)
    assert metrics.direction(name) == direction
    assert (metrics.gain(name, 1.0) > 0) == (direction == "higher")


@pytest.mark.parametrize("name", ["fd", "x.bits_per_dim", "real.classifier.fd", "classifier.is_std", "classifier.", ""])
def test_what_is_no_score_of_a_model_is_not_judged(name):
    assert not metrics.is_judged(name)


def test_headlines_come_first_and_the_extrapolated_have_to_be_asked_for():
    names = ["bits_per_dim", "b.recall", "b.fd_infinity", "b.kid_std", "b.fd", "a.fid", "a.kid_mean", "loss"]
    assert metrics.select_judged(names) == ["a.fid", "b.fd", "a.kid_mean", "b.recall", "bits_per_dim"]
    assert metrics.in_order(["b.fd_infinity", "b.recall", "b.fd"]) == ["b.fd", "b.recall", "b.fd_infinity"]


def test_the_kernel_distance_of_a_score_is_in_the_same_features():
    assert metrics.kid_of("inception.fid") == "inception.kid_mean"
    assert metrics.kid_of("bits_per_dim") is None
    assert metrics.kid_of("inception.recall") is None  # it may rise as the distance does, without contradiction
