"""Where in the noise a variant is better: said where it is so, at the same noise level, and never of mere noise."""

import numpy as np

from ddpm.base import files
from ddpm.report import noise_levels
from ddpm.report.noise_levels import Difference
from ddpm.runs import record
from ddpm.runs.record import Record
from tests.scored import bare


def errors(log_snr: np.ndarray, error: np.ndarray) -> files.Rows:
    t = range(1, len(log_snr) + 1)
    return [{"t": n, "steps": 1, "log_snr": float(x), "error_test": float(e)}
            for n, x, e in zip(t, log_snr, error, strict=True)]  # fmt: skip


def differences(gap: float, shift: float = 0.0, seeds: int = 6) -> list[Difference]:
    """linear against cosine: its error is ``gap`` lower, as a share, below log-SNR 0; its noise levels are shifted."""
    random = np.random.default_rng(0)
    arms: dict[str, dict[int, Record]] = {"cosine": {}, "linear": {}}
    for seed in range(seeds):
        common = 1 + 0.05 * random.standard_normal()
        for schedule, arm in arms.items():
            log_snr = np.linspace(8, -6, 40) + shift * (schedule == "linear")
            error = common / (1 + np.exp(-log_snr / 2)) * (1 + 0.005 * random.standard_normal(40))
            error = error * (1 - gap * (log_snr < 0) * (schedule == "linear"))
            arm[seed] = bare(seed, noise_levels=record.table(errors(log_snr, error)))
    return noise_levels.differences(arms | {"no likelihood": {0: bare()}}, 0.95)


def test_a_lower_error_is_said_where_it_is():
    (found,) = differences(0.1)
    low = found.log_snr < -1
    np.testing.assert_allclose(found.share[low], -0.1, atol=0.01)
    assert np.abs(found.share[found.log_snr > 1]).max() < 0.01
    line = found.sentence()
    assert all(part in line for part in ("linear", "cosine", "lower", "t = 2", "40", "10"))
    assert "higher" not in line


def test_levels_are_paired_by_their_noise_and_not_by_t():
    (found,) = differences(0.0, shift=1.5)
    assert np.abs(found.share).max() < 0.02  # by t it would be up to two thirds


def test_a_few_seeds_say_nothing():
    assert differences(0.1, seeds=3) == []


def test_of_mere_noise_it_is_seldom_said_that_it_is_a_difference():
    random, said = np.random.default_rng(1), 0
    for _ in range(150):
        curves = 1 + 0.1 * random.standard_normal((6, 2, 40))
        x = np.linspace(8, -6, 40)
        arms = {
            label: {
                seed: bare(seed, noise_levels=record.table(errors(x, pair[side]))) for seed, pair in enumerate(curves)
            }
            for side, label in enumerate("ab")
        }
        (found,) = noise_levels.differences(arms, 0.95)
        said += "nowhere" not in found.sentence()
    assert said < 150 * 0.05 * 2  # 7.5 expected at most
