"""Every loss in the folder: one weighting for all parameterizations, and every allowed combination trains."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.batch import NoisyBatch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.loss import Estimate, Loss, Space
from ddpm.training.trainer import Trainer
from docs.make_variants import Combination, combinations
from tests.small import TINY, loss_at, pictures, small

T = 100
STEPS = torch.tensor([1, 2, 10, 50, 80, 100])
STEPS_TO_FALL = 3  # every loss falls by 3% or more within them
PARAMETERIZATIONS = variant.names("parameterizations")


def pairs() -> list[Combination]:
    """Few allowed combinations, in which every pair of variants occurs that any has."""
    few = []
    allowed = [found for found in combinations() if not found.reasons]
    left = {pair for found in allowed for pair in itertools.combinations(enumerate(found[:4]), 2)}
    while left:
        few.append(max(allowed, key=lambda found: len(left & {*itertools.combinations(enumerate(found[:4]), 2)})))
        left -= {*itertools.combinations(enumerate(few[-1][:4]), 2)}
    return few


def loss(name: str, **fields: float | str) -> Loss:
    return variant.build("losses", {"name": name, name: fields}, "diffusion.loss")


def estimate(parameterization: str, variance: str = "fixed_small", grad: bool = False) -> Estimate:
    """The same wrong belief about x_0, expressed in ``parameterization``'s terms, float64."""
    schedule = variant.build("schedules", {"name": "cosine"}, "s").noise_schedule(T)
    chain = Chain(schedule, dtype=torch.float64)
    at = chain.at(STEPS)
    told = variant.build("parameterizations", {"name": parameterization}, "p")
    spread = variant.build("variances", {"name": variance}, "v")
    generator = torch.Generator().manual_seed(0)
    x_0, epsilon, error = torch.randn(3, len(STEPS), 3, 4, 4, generator=generator, dtype=torch.float64)
    x_0 = x_0.clamp(-1, 1).mul(127.5).round() / 127.5
    x_t = q_sample(x_0, epsilon, at)
    belief = x_0 + 0.1 * error
    output = told.target(belief, (x_t - at.signal * belief) / at.sigma, at).requires_grad_(grad)
    head = torch.zeros_like(output, requires_grad=grad) if spread.outputs == 2 else None
    network = SimpleNamespace(chain=chain, parameterization=told, variance=spread)
    return Estimate(network, NoisyBatch(x_0, epsilon, x_t, STEPS, at), output, head)  # type: ignore[arg-type]


def snr() -> Tensor:
    at = estimate("x0").noisy.at
    return (at.alpha_bar / (1 - at.alpha_bar)).flatten()


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", ["edm", "min_snr", "p2", "sigmoid", "vlb"])
def test_a_weighting_is_the_same_objective_for_every_parameterization(name, parameterization):
    ours, other = (loss(name).measure(estimate(chosen)) for chosen in (parameterization, "x0"))
    assert ours.shape == (len(STEPS),)
    torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("space", get_args(Space))
def test_the_space_of_simple_is_apart_from_the_target(space, parameterization):
    """The same belief about x_0 costs what it costs if that space is the target."""
    ours = loss("simple", space=space).measure(estimate(parameterization))
    torch.testing.assert_close(ours, loss("simple").measure(estimate(space)), rtol=1e-6, atol=1e-12)


def test_the_published_weights():
    ratio, squared = snr(), estimate("x0").squared_error()
    torch.testing.assert_close(loss("min_snr", gamma=3.0).measure(estimate("v")), ratio.clamp(max=3) * squared)
    offset, v = loss("min_snr", gamma=3.0, offset=1.0), estimate("v")
    torch.testing.assert_close(offset.measure(v), (ratio + 1).clamp(max=3) / (ratio + 1) * v.squared_error())
    epsilon = estimate("epsilon")
    published = epsilon.squared_error() / (2 + ratio) ** 0.5
    torch.testing.assert_close(loss("p2", k=2.0, gamma=0.5).measure(epsilon), published)
    torch.testing.assert_close(loss("min_snr").measure(epsilon), (5 / ratio).clamp(max=1) * epsilon.squared_error())
    sigma, data = ratio**-0.5, 0.7
    edm = (sigma**2 + data**2) / (sigma * data) ** 2
    torch.testing.assert_close(loss("edm", sigma_data=data).measure(estimate("epsilon")), edm * squared)
    plain = loss("simple").measure(estimate("v"))
    torch.testing.assert_close(loss("edm", sigma_data=1.0).measure(estimate("v")), plain)


@pytest.mark.parametrize("schedule", variant.names("schedules"))
@pytest.mark.parametrize("bias", [2.0, -1.0])
def test_sigmoid_is_one_integral_over_log_snr_under_every_schedule(schedule, bias):
    """The integral of sigmoid(bias - log SNR) times epsilon's squared error, of the best network for data that are
    N(0, variance); in t, the chain's sum."""
    T, levels = 1000, np.linspace(-60, 60, 100_001)
    chain = variant.build("schedules", {"name": schedule}, "s").noise_schedule(T)
    steps, constants = torch.arange(1, T + 1), Chain(chain, dtype=torch.float64)
    network = SimpleNamespace(
        chain=constants, parameterization=variant.build("parameterizations", {"name": "epsilon"}, "p")
    )
    at = constants.at(steps)
    zero = torch.zeros_like(at.signal)
    for spread in (1.0, 0.25):
        errors = [1 / (1 + np.exp(-each) / spread) for each in (levels, chain.log_snr)]
        off = torch.from_numpy(errors[1]).sqrt().view(-1, 1, 1, 1)
        case = Estimate(network, NoisyBatch(zero, zero, zero, steps, at), off)  # type: ignore[arg-type]
        integral = np.trapezoid(errors[0] / (1 + np.exp(levels - bias)), levels)
        assert float(loss("sigmoid", bias=bias).measure(case).mean()) == pytest.approx(integral, rel=0.02)


def test_vlb_is_equation_12s_weight_on_epsilon_where_the_variance_is_the_posteriors():
    case = estimate("epsilon")
    schedule = variant.build("schedules", {"name": "cosine"}, "s").noise_schedule(T)
    beta, alpha, alpha_bar = (
        torch.from_numpy(a)[STEPS - 1] for a in (schedule.beta, schedule.alpha, schedule.alpha_bar)
    )
    weight = beta**2 / (2 * case.noisy.at.log_beta_tilde.flatten().exp() * alpha * (1 - alpha_bar))
    bits = weight * case.squared_error() * T / math.log(2)
    torch.testing.assert_close(loss("vlb").measure(case)[1:], bits[1:], rtol=1e-8, atol=0)


@pytest.mark.parametrize("variance", variant.names("variances"))
def test_vlb_is_never_negative_and_least_for_the_truth(variance):
    case = estimate("x0", variance)
    wrong, right = loss("vlb").measure(case), loss("vlb").measure(case._replace(output=case.noisy.x_0))
    assert (right >= 0).all()
    assert (right < wrong).all()


def test_hybrid_trains_the_mean_by_simple_and_the_variance_by_vlb():
    gradients = []
    for name in ("hybrid", "simple", "vlb"):
        case = estimate("epsilon", "learned_range", grad=True)
        loss(name).measure(case).sum().backward()
        head = case.variance_output
        assert head is not None
        gradients.append((case.output.grad, head.grad))
    hybrid, simple, vlb = gradients
    torch.testing.assert_close(hybrid[0], simple[0])
    torch.testing.assert_close(hybrid[1], 0.001 * vlb[1])
    assert simple[1] is None
    assert (hybrid[1].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("name", variant.names("losses"))
def test_the_flags_tell_the_truth(name):
    chosen = loss(name)
    case = estimate("v", "learned_range", grad=True)
    chosen.measure(case).sum().backward()
    head = case.variance_output
    assert head is not None
    assert (head.grad is not None) == chosen.trains_variance
    zero_snr = case.noisy.at._replace(
        signal=torch.zeros_like(case.noisy.at.signal), sigma=torch.ones_like(case.noisy.at.sigma)
    )
    case = estimate("v", "learned_range", grad=True)
    chosen.measure(case._replace(noisy=replace(case.noisy, at=zero_snr, x_t=case.noisy.epsilon))).sum().backward()
    assert bool(case.output.grad.any()) == chosen.trains_zero_snr  # type: ignore[union-attr]


@pytest.mark.parametrize("found", pairs(), ids=lambda found: "-".join(map(str, found[:4])))
def test_every_allowed_pair_trains_and_its_loss_falls(found):
    *names, zero_terminal_snr = found[:4]
    schedule = {"name": "cosine", "cosine": {"zero_terminal_snr": zero_terminal_snr}}
    families = zip(("parameterization", "loss", "variance"), names, strict=True)
    diffusion = {"T": 50, "schedule": schedule} | {family: {"name": name} for family, name in families}
    train = {"steps": STEPS_TO_FALL, "batch_size": 8, "learning_rate": 6e-3, "gradient_clip": 1.0}
    sampler = "consistency" if "consistency" in names else "ddim"
    config = small(diffusion=diffusion, train=train, model=TINY, sample={"sampler": {"name": sampler}})
    trainer = Trainer(config.training(), pictures(16), torch.device("cpu"))
    t, place = torch.arange(1, 51), torch.arange(50)
    x_0, epsilon = trainer.batches(1)[place % 8], noise.gaussian(0, "test", place, 0, trainer.shape)
    before = loss_at(trainer, x_0, epsilon, t)
    for step in range(1, STEPS_TO_FALL + 1):
        trainer.step(step)
    assert loss_at(trainer, x_0, epsilon, t) < before < math.inf
