"""The scores of real images, and what an extractor is worth."""

import numpy as np
import pytest
import torch

from ddpm.scoring import frechet, reference, scores
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features

CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=10, kid_subset_size=150)


@pytest.mark.parametrize(
    ("accuracy", "classes", "poor"), [(0.195, 100, True), (0.52, 100, False), (0.5, 10, True), (0.6, 10, False),
     (0.7, 2, True), (0.8, 2, False)],
)  # fmt: skip
def test_a_classifier_with_more_than_half_of_a_guess_s_errors_is_warned_of(accuracy, classes, poor, real, capsys):
    labels = np.arange(1000) % classes
    named = np.where(np.arange(1000) % 997 < 997 * accuracy, labels, (labels + 1) % classes)
    logits = torch.nn.functional.one_hot(torch.from_numpy(named), classes).float()
    reference.recognise(real.extractor, Features(torch.zeros(1000, 64), logits), labels)
    out, err = capsys.readouterr()
    assert err.startswith("warning: evaluate.extractors: classifier recognises") == poor
    assert f"class of {np.mean(named == labels):.1%}" in out


def test_the_limit_is_named_after_the_distance_and_left_out_where_images_are_few(real):
    many = Features(real.features, torch.zeros(len(real.features), 10))
    found, curve = scores.with_curve(many, real, SETTINGS)
    assert isinstance(curve, frechet.Curve)
    assert found.keys() - scores.score(many, real, SETTINGS).keys() == {"fd_infinity", "fd_infinity_se"}
    few = SETTINGS.model_copy(update={"metrics": ("fid",)})
    assert scores.with_curve(real.held_out, real, few)[1] is None
    kid = SETTINGS.model_copy(update={"metrics": ("kid",)})
    assert scores.with_curve(many, real, kid)[1] is None
