"""Scores are those of closed forms, of formulas in float64, and of the packages that published them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize
from scipy.spatial.distance import cdist
from scipy.stats import betabinom, multivariate_normal

from ddpm.scoring import distances, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features
from ddpm.variants.metrics import density_coverage, fld, mind
from ddpm.variants.metrics.cmmd import Cmmd
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
        held_out=SimpleNamespace(features=torch.from_numpy(normal(99, 300, real.shape[1])).float()),
    )
    return judge.measure(Features(ours, torch.zeros(len(ours), 2)), of_real, OPTIONS)


def normal(seed: int, count: int, dimensions: int, mean: float = 0.0, sd: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(mean, sd, (count, dimensions))


# --- Gaussians


# --- formulas in float64


@pytest.mark.parametrize(("n", "m"), [(60, 60), (60, 90), (64, 35)])
def test_cmmd_and_mind_are_the_formulas(n, m):
    fake, real = normal(0, n, 5, 0.3, 1.2), normal(1, m, 5)

    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (fake, real)]
    kernel = [np.exp(-cdist(a, b, "sqeuclidean") / 200).mean() for a, b in [unit, unit[:1] * 2, unit[1:] * 2]]
    assert measure("cmmd", fake, real)["cmmd"] == pytest.approx(
        1000 * (kernel[1] + kernel[2] - 2 * kernel[0]), rel=1e-3
    )

    angles = np.random.default_rng(2).normal(size=(200_000, 5))
    angles /= np.linalg.norm(angles, axis=1, keepdims=True)
    ours, theirs = (np.repeat(np.sort(part @ angles[:4000].T, 0), times, 0) for part, times in ((fake, m), (real, n)))
    assert measure("mind", fake, real)["mind"] == pytest.approx(5 * np.square(ours - theirs).mean(), rel=0.05)


@given(n=st.integers(1, 40), m=st.integers(1, 40))
def test_a_coupling_moves_everything_in_order_and_costs_what_repeated_values_cost(n, m):
    share, ours, theirs = mind.coupling(n, m)
    assert len(share) <= n + m - 1
    np.testing.assert_allclose(np.bincount(ours, share), np.full(n, 1 / n))
    np.testing.assert_allclose(np.bincount(theirs, share), np.full(m, 1 / m))
    x, y = np.sort(normal(n, n, 1)[:, 0]), np.sort(normal(m + 99, m, 1)[:, 0])
    assert np.square(x[ours] - y[theirs]) @ share == pytest.approx(np.square(np.repeat(x, m) - np.repeat(y, n)).mean())


def test_vendi_is_the_entropy_of_the_kernels_eigenvalues():
    fake = normal(0, 120, 7, 1.0)
    unit = fake / np.linalg.norm(fake, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(fake)).clip(1e-300)
    assert measure("vendi", fake, fake)["vendi"] == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-6)


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


# --- FLD


def log_likelihood(points: Array, centres: Array, variances: Array) -> Array:
    """(N,) nats, Gaussian by Gaussian, by scipy."""
    each = [multivariate_normal(centre, width).pdf(points) for centre, width in zip(centres, variances, strict=True)]
    return np.log(np.mean(each, axis=0))


def test_widths_are_the_most_likely_ones():
    centres, points = normal(0, 4, 2), normal(1, 60, 2)

    def loss(logs: Array) -> float:
        """Of the points, with the component that is fitted and left out."""
        squared = 0.81 * ((points - points.mean(0)) ** 2).sum(1)
        rest = np.exp(-0.5 * squared / np.exp(logs[-1])) / (2 * np.pi * np.exp(logs[-1]))
        return -float(np.log(np.exp(log_likelihood(points, centres, np.exp(logs[:-1]))) + rest).mean())

    found = fld.widths(torch.from_numpy(centres), torch.from_numpy(points), 2000).numpy()
    least = min((optimize.minimize(loss, [*np.log(found), start]) for start in (0.0, 1.0)), key=lambda one: one.fun)
    np.testing.assert_allclose(np.log(found), least.x[:-1], atol=0.02)


def test_surprise_is_the_mean_log_likelihood_per_feature():
    points, centres, variances = normal(0, 50, 3), normal(1, 20, 3), np.linspace(0.1, 2, 20)
    found = fld.surprise(*(torch.from_numpy(each) for each in (points, centres, variances)))
    assert found == pytest.approx(-log_likelihood(points, centres, variances).mean() / 3, rel=1e-9)


def test_fld_is_low_for_new_images_and_high_for_copies_and_other_images():
    train, new = normal(0, 600, 4), normal(1, 600, 4)
    scores = {name: measure("fld", fake, train) for name, fake in
              {"new": new, "copies": train + 1e-6, "far": new + 2, "wide": 3 * new}.items()}  # fmt: skip
    assert abs(scores["new"]["fld"]) < 10
    assert all(scores[name]["fld"] > scores["new"]["fld"] + 10 for name in ("copies", "far", "wide"))
    assert scores["copies"]["fld_gap"] < scores["new"]["fld_gap"] - 10


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


@pytest.mark.parametrize("chosen", [Cmmd(images=150), DensityCoverage(images=150)])
def test_a_metric_of_every_pair_looks_at_a_part_of_large_sets(chosen):
    fake, real = normal(0, 300, 4), normal(1, 400, 4)
    parts = (distances.part(torch.from_numpy(each), 150).numpy() for each in (fake, real))
    assert measure(chosen, fake, real) == measure(chosen, *parts)
