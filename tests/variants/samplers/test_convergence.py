"""Measured order of convergence: the error of each solver against the probability-flow ODE's own solution."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.chain import Chain
from ddpm.sampling.sampler import Level
from tests.peers import exact
from tests.small import build

FINE = 160
WHOLE = exact.even_in_log_snr(FINE)
X_T = noise.gaussian(0, "x_T", torch.arange(64), 0, (2, 1, 1)).double()


@pytest.fixture(scope="module")
def solution():
    """x at t = 1: d(x / sigma) / d(log ratio) = signal / sigma x_0, by SciPy's Runge-Kutta of order 8."""
    data = exact.mixture(WHOLE)
    first, last = data.level[1], data.level[FINE + 1]

    def velocity(log_ratio: float, scaled: np.ndarray) -> np.ndarray:
        sigma = 1 / math.sqrt(1 + math.exp(2 * log_ratio))
        level = Level(0, sigma * math.exp(log_ratio), sigma, log_ratio)
        x_t = torch.from_numpy(scaled).reshape(X_T.shape) * sigma
        return (data.x_0(x_t, level) * math.exp(log_ratio)).numpy().ravel()

    span, begin = (last.log_ratio, first.log_ratio), (X_T / last.sigma).numpy().ravel()
    path = solve_ivp(velocity, span, begin, method="DOP853", rtol=1e-11, atol=1e-11)
    assert path.success
    return torch.from_numpy(path.y[:, -1]).reshape(X_T.shape) * first.sigma


def error(name: str, fields: dict[str, float], steps: int, solution) -> float:
    """The root mean square at t = 1, before the step to the image, which is of first order for all."""
    chosen = build("samplers", name, **fields)
    visited = np.arange(1, FINE + 2, FINE // steps)
    chain = Chain(WHOLE.respace(visited), dtype=torch.float64)
    states = list(chosen.steps(exact.mixture(WHOLE), X_T, chain, lambda t: torch.zeros(1), None))
    return float((states[-2] - solution).square().mean().sqrt())


# the order that each paper proves; samplers that draw noise are here with the fields that make them solve the ODE
ORDERS = [
    ("ddim", {}, 1),
    ("dpmpp_2m", {}, 2),
    ("heun", {}, 2),
    ("unipc", {"order": 1}, 2),
    ("unipc", {"order": 2}, 3),
    ("unipc", {"order": 3}, 3),  # its order is 4, but the first step has 2, which caps the whole at 3
]
NO_ODE = {"ancestral", "consistency", "flow_map"}  # the last one has no steps that could be too long


def test_every_sampler_has_an_order():
    missing = set(variant.names("samplers")) - {name for name, _, _ in ORDERS} - NO_ODE
    assert not missing, f"{missing}: add its order to ORDERS, or its name to NO_ODE if no fields make it solve the ODE"


@pytest.mark.parametrize(("name", "fields", "order"), ORDERS)
def test_error_falls_with_the_power_of_the_step_that_the_papers_prove(name, fields, order, solution):
    coarse, fine = (error(name, fields, steps, solution) for steps in (FINE // 2, FINE))
    assert order - 0.06 < math.log2(coarse / fine) < order + 0.5
