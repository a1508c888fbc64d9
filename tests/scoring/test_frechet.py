"""The Fréchet distance and its limit, on Gaussians whose distance is known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ddpm.scoring import distances, frechet
from ddpm.scoring.frechet import Distance

CPU = torch.device("cpu")
D = 8
SPREAD = torch.logspace(0, -2, D, dtype=torch.float64).sqrt()
DISTANCE = Distance(np.zeros(D), torch.diag(SPREAD.square()).numpy(), CPU)


def draw(count: int, seed: int, scale: float = 1.3, mean: float = 0.1):
    """N(mean, scale^2 diag(SPREAD^2))."""
    generator = torch.Generator().manual_seed(seed)
    return mean + scale * SPREAD * torch.randn(count, D, generator=generator, dtype=torch.float64)


def true_distance(scale: float = 1.3, mean: float = 0.1) -> float:
    """The distance between that and N(0, diag(SPREAD^2)): their covariances commute."""
    return D * mean**2 + (scale - 1) ** 2 * float(SPREAD.square().sum())


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_statistics_of_many_images_are_summed_in_blocks(rows, monkeypatch):
    features = (1000 + draw(300, 0)).float()
    monkeypatch.setattr(frechet, "ROWS", rows)
    monkeypatch.setattr(distances, "MOST", 299)
    found = frechet.statistics(features)
    double = features.double().numpy()
    np.testing.assert_allclose(found["mu"], double.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found["sigma"], np.cov(double, rowvar=False), rtol=1e-8, atol=1e-10)


def test_the_distance_is_torch_fidelitys():
    mixing = torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    real, fake = draw(200, 0, mean=0.0) @ mixing, draw(150, 1)
    statistics = fid_features_to_statistics(real)
    expected = fid_statistics_to_metric(fid_features_to_statistics(fake), statistics, verbose=False)
    found = Distance(statistics["mu"], statistics["sigma"], CPU)(fake)
    assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-9)
    assert np.isfinite(Distance(statistics["mu"], statistics["sigma"], CPU)(fake[:3]))


def test_the_distance_falls_with_the_number_of_images_towards_its_limit():
    curve = frechet.extrapolate(draw(200, 0), DISTANCE)
    assert curve.n.tolist() == [200, 100, 66, 50]
    assert curve.fd[0] == pytest.approx(DISTANCE(draw(200, 0)), rel=1e-12)
    assert all(a < b for a, b in pairwise([curve.infinity, *curve.fd]))
    assert np.isnan(curve.fd_sd[0])
    assert (curve.fd_sd[1:] > 0).all()


def test_the_limit_is_the_true_distance_where_the_distance_itself_is_too_large():
    curves = [frechet.extrapolate(draw(80, seed), DISTANCE) for seed in range(40)]
    limits = np.array([curve.infinity for curve in curves])
    measured = np.array([curve.fd[0] for curve in curves])
    error = limits.std(ddof=1)
    assert limits.mean() == pytest.approx(true_distance(), abs=3 * error / np.sqrt(len(limits)))
    assert measured.mean() > true_distance() + 4 * measured.std() / np.sqrt(len(measured))
    said = np.mean([curve.infinity_se for curve in curves])
    assert 0.7 * error < said < 2 * error
