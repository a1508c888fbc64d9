"""A model that is fine-tuned on a score gets a better one."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm.scoring.features import extract
from examples import fit_metric

ROOT = Path(__file__).parents[2]


def test_the_distance_falls(digits, folder, monkeypatch):
    network, target = fit_metric.read_space("random_conv", digits)
    distances = []
    for extractors in ([], ["--extractors", "random_conv"]):
        given = ["--model", ROOT / "models/digits/model.safetensors", "--train", digits / "train/images.npy"]
        given += [
            "--out",
            "x.npy",
            "--steps",
            2,
            "--samples",
            100,
            "--batch",
            64,
            "--iterations",
            5,
            "--learning-rate",
            3e-4,
            *extractors,
        ]
        monkeypatch.setattr(sys, "argv", ["fit_metric.py", *map(str, given)])
        fit_metric.main()
        features = extract(network, np.load("x.npy"), 100, fit_metric.DEVICE).features
        distances.append(target(features))
        assert float(fit_metric.distance(features, target)) == pytest.approx(distances[-1], rel=1e-4)
    assert distances[1] < 0.5 * distances[0]
