"""A model that is fine-tuned on a score gets a better one."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ddpm.scoring.features import extract
from examples import fit_metric

MODEL = Path(__file__).parents[2] / "models/digits/model.safetensors"
OPTIONS = "--out x.npy --steps 2 --samples 100 --batch 64 --iterations 5 --learning-rate 3e-4"


def test_the_distance_falls(digits, folder, monkeypatch):
    network, target = fit_metric.read_space("random_conv", digits)
    files = ["--model", str(MODEL), "--train", str(digits / "train/images.npy")]
    distances = []
    for fitted_to in ("", " --extractors random_conv"):
        monkeypatch.setattr(sys, "argv", ["fit_metric.py", *files, *f"{OPTIONS}{fitted_to}".split()])
        fit_metric.main()
        features = extract(network, np.load("x.npy"), 100, fit_metric.DEVICE).features
        distances.append(target(features))
        assert float(fit_metric.distance(features, target)) == pytest.approx(distances[-1], rel=1e-4)
    assert distances[1] < 0.5 * distances[0]
