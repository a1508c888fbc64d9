"""Scores are those of closed forms, of formulas in float64, and of the packages that published them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import betabinom

from ddpm.scoring import distances, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features
from ddpm.variants.metrics import density_coverage
from ddpm.variants.metrics.density_coverage import DensityCoverage

Array = NDArray[np.float64]
OPTIONS = Evaluate(extractors=("classifier",))


def measure(chosen: str | metric.Metric, fake: Array, real: Array) -> dict[str, float]:
    """Of arrays (N, D)."""
    judge = metric.get(chosen) if isinstance(chosen, str) else chosen
    ours, theirs = (torch.from_numpy(part).float() for part in (fake, real))
    of_real: Any = SimpleNamespace(
        features=theirs,
        reach=lambda k: distances.neighbours(theirs, k)[0][:, -1],
        mu=real.mean(0).astype(np.float32),
        sigma=np.cov(real, rowvar=False),
        extractor=SimpleNamespace(frechet="fd"),
    )
    return judge.measure(Features(ours, torch.zeros(len(ours), 2)), of_real, OPTIONS)


def normal(seed: int, count: int, dimensions: int, mean: float = 0.0, sd: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(mean, sd, (count, dimensions))


# --- nearest neighbours


def of_prdc(fake: Array, real: Array, k: int) -> dict[str, float]:
    compute = pytest.importorskip("prdc").compute_prdc
    found: dict[str, float] = compute(real_features=real, fake_features=fake, nearest_k=k)
    return found


@pytest.mark.parametrize(("n", "m", "k"), [(200, 300, 5), (300, 200, 2), (150, 150, 3)])
def test_density_and_coverage_are_those_of_prdc(n, m, k):
    fake, real = normal(0, n, 6, 0.2, 0.9), normal(1, m, 6)
    found, expected = measure(DensityCoverage(neighbours=k), fake, real), of_prdc(fake, real, k)
    assert found["density"] == pytest.approx(expected["density"], rel=1e-4)
    assert found["coverage"] == pytest.approx(expected["coverage"], abs=1e-6)


@pytest.mark.parametrize(("n", "m", "k"), [(200, 300, 5), (300, 200, 2)])
def test_clipped_density_and_coverage_are_the_formulas(n, m, k):
    fake, real = normal(0, n, 6, 0.2, 0.9), normal(1, m, 6)
    apart = cdist(real, real) + np.diag(np.full(m, np.inf))
    radius = np.sort(apart, axis=1)[:, k - 1]
    clipped = np.minimum(radius, np.median(radius))
    density = [np.minimum((gaps <= clipped[:, None]).sum(0) / k, 1).mean() for gaps in (cdist(real, fake), apart)]
    covered = np.minimum((cdist(real, fake) < radius[:, None]).sum(1) / k, 1).mean()
    mean = [betabinom(good, k, m - k).expect(lambda j: np.minimum(j, k)) / k for good in range(0, n + 1, 20)]
    assert np.allclose(density_coverage.expected(k, m, n)[::20], mean, rtol=1e-6)

    found = measure(DensityCoverage(neighbours=k), fake, real)

    assert found["clipped_density"] == pytest.approx(min(1, density[0] / density[1]), rel=0.01)
    good = np.interp(covered, density_coverage.expected(k, m, n), np.arange(n + 1) / n)
    assert found["clipped_coverage"] == pytest.approx(good, abs=0.005)


# --- distances, and parts


@given(n=st.integers(1, 30), m=st.integers(1, 30), offset=st.floats(-1000, 1000))
@settings(max_examples=30)
def test_distances_are_those_of_float64(n, m, offset):
    x, y = (torch.from_numpy(normal(seed, count, 3) + offset).float() for seed, count in ((0, n), (1, m)))
    found = torch.cat([part for _, part in distances.squared(x, y)])
    np.testing.assert_allclose(found, cdist(x, y, "sqeuclidean"), rtol=1e-3, atol=1e-3)
    assert (found >= 0).all()


def test_a_part_is_chosen_by_row_and_a_smaller_one_lies_within_a_larger():
    features = torch.arange(1000.0)[:, None]
    small, large = (set(distances.part(features, count).flatten().tolist()) for count in (50, 300))
    assert len(small) == 50
    assert small < large
    assert np.mean(list(large)) == pytest.approx(500, abs=50)
    assert distances.part(features, 1000) is features


def test_a_metric_of_every_pair_looks_at_a_part_of_large_sets():
    judge = DensityCoverage(images=150)
    fake, real = normal(0, 300, 4), normal(1, 400, 4)
    parts = (distances.part(torch.from_numpy(each), 150).numpy() for each in (fake, real))
    assert measure(judge, fake, real) == measure(judge, *parts)
