"""Real images' scores, and that spoiled images score worse and worse."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from ddpm.scoring import calibration, frechet, scores
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract

CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=10, kid_subset_size=150)


def test_the_floor_is_what_held_out_images_score_by_the_metrics_that_they_suffice_for(
    digits, classifier_reference, real, held_out
):
    settings = SETTINGS.model_copy(update={"kid_subset_size": len(held_out) + 1})

    found = calibration.calibrate(settings, digits, classifier_reference, CPU)

    fake = extract(real.network, held_out, 64, CPU)
    possible = settings.model_copy(update={"metrics": ("fid", "isc", "prc")})
    assert found["classifier"]["floor"] == {"count": len(held_out), **scores.score(fake, real, possible)}


def test_the_ladder_climbs_from_the_floor_and_nothing_is_warned_of(digits, classifier_reference, capsys):
    found = calibration.calibrate(SETTINGS, digits, classifier_reference, CPU)["classifier"]

    assert found["ladder"].keys() == {"blur", "noise"}
    for rungs in found["ladder"].values():
        scored = ("fd", "kid_mean", "kid_std", "precision", "recall")
        assert rungs[0] == {"level": 0, **{key: found["floor"][key] for key in scored}}
        for key in ("level", "fd", "kid_mean"):
            assert all(before[key] < after[key] for before, after in pairwise(rungs))
        precision = [rung["precision"] for rung in rungs]
        assert all(before > after or after == 0 for before, after in pairwise(precision))
    assert "warning" not in capsys.readouterr().err


def test_a_ladder_that_does_not_climb_is_warned_of(digits, classifier_reference, monkeypatch, capsys):
    monkeypatch.setitem(calibration.SPOILING, "noise", (calibration.noised, (0.25, 0.125)))

    calibration.calibrate(SETTINGS.model_copy(update={"metrics": ("fid",)}), digits, classifier_reference, CPU)

    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert line.startswith(
        "warning: classifier.fd does not get worse with each step of noise on real test images (0.178 at "
    )


@pytest.mark.parametrize(
    ("accuracy", "classes", "poor"), [(0.195, 100, True), (0.52, 100, False), (0.5, 10, True), (0.6, 10, False),
     (0.7, 2, True), (0.8, 2, False)],
)  # fmt: skip
def test_a_classifier_with_more_than_half_of_a_guess_s_errors_is_warned_of(accuracy, classes, poor, real, capsys):
    labels = np.arange(1000) % classes
    named = np.where(np.arange(1000) % 997 < 997 * accuracy, labels, (labels + 1) % classes)
    logits = torch.nn.functional.one_hot(torch.from_numpy(named), classes).float()
    lines = calibration.recognised(replace(real, held_out=Features(torch.zeros(1000, 64), logits)), labels)
    assert [line.startswith("evaluate.extractors: classifier recognises") for line in lines] == [True] * poor
    assert f"class of {np.mean(named == labels):.1%}" in capsys.readouterr().out


def test_a_share_that_does_not_fall_is_warned_of_unless_it_is_0_already(real):
    def steps(*shares: float) -> list[calibration.Rung]:
        return [{"level": at, "precision": share, "recall": share} for at, share in enumerate(shares)]

    assert calibration.unseen({"noise": steps(0.7, 0.2, 0.0, 0.0)}, real) == []
    (line,) = calibration.unseen({"noise": steps(0.7, 0.7, 0.1)}, real)  # recall need not see noise
    assert line.startswith("classifier.precision does not get worse with each step of noise")


def test_there_is_no_ladder_without_a_metric_that_should_climb_it(real, held_out):
    settings = SETTINGS.model_copy(update={"metrics": ("isc",)})
    assert calibration.ladder(held_out, real, settings, CPU) == {}
    assert calibration.ladder(held_out[:30], real, SETTINGS.model_copy(update={"metrics": ("fid",)}), CPU) == {}


def test_spoiling_keeps_shape_and_mean_and_does_more_at_a_higher_level(held_out):
    images = held_out[:50] // 2 + 64  # away from the ends, where noise is cut off
    for spoil, levels in calibration.SPOILING.values():
        spoiled = [spoil(images, level) for level in levels]
        assert all(part.shape == images.shape and part.dtype == np.uint8 for part in spoiled)
        changes = [np.abs(part.astype(int) - images).mean() for part in spoiled]
        assert all(a < b for a, b in pairwise([0.5, *changes]))
    assert calibration.blurred(images, 1 / 16).mean() == pytest.approx(images.mean(), abs=2)
    noise = calibration.noised(images, 1 / 16).astype(float) - images
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(255 / 16, rel=0.05)


def test_an_image_has_its_own_noise(held_out, monkeypatch):
    whole = calibration.noised(held_out[:9], 0.1)
    monkeypatch.setattr(calibration, "NOISE_BATCH", 4)
    np.testing.assert_array_equal(calibration.noised(held_out[:9], 0.1), whole)


def test_the_limit_is_named_after_the_distance_and_left_out_where_images_are_few(real):
    many = Features(real.features, torch.zeros(len(real.features), 10))
    curve = calibration.fd_curve(many, real, SETTINGS, CPU)
    assert isinstance(curve, frechet.Curve)
    assert calibration.extrapolated(real, curve).keys() == {"fd_infinity", "fd_infinity_se"}
    assert calibration.fd_curve(real.held_out, real, SETTINGS, CPU) is None
    assert calibration.fd_curve(many, real, SETTINGS.model_copy(update={"metrics": ("kid",)}), CPU) is None
