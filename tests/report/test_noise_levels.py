"""Where in the noise a variant is better: shown where it is so, at the same noise level, and never of mere noise."""

import numpy as np

from ddpm.report import noise_levels
from ddpm.runs import record
from ddpm.verdicts.verdict import Pair
from tests.scored import bare


def errors(log_snr: np.ndarray, error: np.ndarray):
    t = range(1, len(log_snr) + 1)
    return [{"t": n, "steps": 1, "log_snr": float(x), "error_test": float(e)}
            for n, x, e in zip(t, log_snr, error, strict=True)]  # fmt: skip


def compare(gap: float, shift: float = 0.0, seeds: int = 6) -> np.ndarray:
    """linear against cosine: its error is ``gap`` lower, as a share, below log-SNR 0; its noise levels are shifted."""
    random = np.random.default_rng(0)
    sides = {"cosine": [], "linear": []}
    for seed in range(seeds):
        common = 1 + 0.05 * random.standard_normal()
        for schedule, side in sides.items():
            log_snr = np.linspace(8, -6, 40) + shift * (schedule == "linear")
            error = common / (1 + np.exp(-log_snr / 2)) * (1 + 0.005 * random.standard_normal(40))
            error = error * (1 - gap * (log_snr < 0) * (schedule == "linear"))
            side.append(bare(seed, noise_levels=record.table(errors(log_snr, error))))
    return noise_levels.compare_errors(Pair("cosine", "linear", *map(tuple, sides.values())), 0.95)


def test_a_lower_error_is_found_where_it_is():
    log_snr, mean, low, high = compare(0.1).T
    np.testing.assert_allclose(mean[log_snr < -1], -10, atol=1)
    assert (high[log_snr < -1] < 0).all()
    assert np.abs(mean[log_snr > 1]).max() < 1
    assert (low < mean).all()


def test_levels_are_paired_by_their_noise_and_not_by_t():
    assert np.abs(compare(0.0, shift=1.5)[:, 1]).max() < 2  # by t it would be up to two thirds


def test_a_few_seeds_show_nothing():
    assert len(compare(0.1, seeds=3)) == 0


def test_a_band_of_mere_noise_seldom_excludes_0():
    random, x, count = np.random.default_rng(1), np.linspace(8, -6, 40), 0
    for _ in range(150):
        curves = 1 + 0.1 * random.standard_normal((2, 6, 40))
        sides = [[bare(n, noise_levels=record.table(errors(x, one))) for n, one in enumerate(side)] for side in curves]
        _, _, low, high = noise_levels.compare_errors(Pair("a", "b", *map(tuple, sides)), 0.95).T
        count += bool(((low > 0) | (high < 0)).any())
    assert count < 150 * 0.05 * 2  # 7.5 expected at most
