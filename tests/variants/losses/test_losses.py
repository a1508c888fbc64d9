"""Every loss in the folder: one weighting for all parameterizations, and every allowed combination trains."""

import math
from dataclasses import replace
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import get_args
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.diffusion.batch import NoisyBatch
from ddpm.diffusion.chain import Chain, discretized_log_likelihood
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.loss import Estimate, Loss, Space
from ddpm.training.trainer import Trainer
from tests.small import CPU, TINY, build, mean_loss, pictures, small

T = 100
STEPS = torch.tensor([1, 2, 10, 50, 80, 100])
STEPS_TO_FALL = 3  # every loss falls by 3% or more within them
PARAMETERIZATIONS = variant.names("parameterizations")


loss = partial(build, "losses")


def estimate(parameterization: str, grad: bool = False, variance: str = "learned_range") -> Estimate:
    """The same wrong belief about x_0, expressed in ``parameterization``'s terms, float64."""
    chain = Chain(build("schedules", "cosine").noise_schedule(T), dtype=torch.float64)
    at = chain.at(STEPS)
    told = build("parameterizations", parameterization)
    generator = torch.Generator().manual_seed(0)
    x_0, epsilon, error = torch.randn(3, len(STEPS), 3, 4, 4, generator=generator, dtype=torch.float64)
    x_0 = x_0.clamp(-1, 1).mul(127.5).round() / 127.5
    x_t = q_sample(x_0, epsilon, at)
    belief = x_0 + 0.1 * error
    output = told.target(belief, (x_t - at.signal * belief) / at.sigma, at).requires_grad_(grad)
    spread = build("variances", variance)
    head = torch.linspace(-1.2, 1.2, output.numel()).double().view_as(output).requires_grad_(grad)
    network = SimpleNamespace(chain=chain, parameterization=told, variance=spread)
    return Estimate(network, NoisyBatch(x_0, epsilon, x_t, STEPS, at), output, head if spread.outputs == 2 else None)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_a_weighting_and_a_space_are_the_same_objective_for_every_parameterization(parameterization):
    """The same belief about x_0 costs what it costs if the weighting is on x_0, or the space is the target."""
    ours = estimate(parameterization)
    for name in ("min_snr", "p2", "vlb"):
        expected = loss(name).measure(estimate("x0"))
        torch.testing.assert_close(loss(name).measure(ours), expected, rtol=1e-6, atol=1e-12)
    for space in get_args(Space):
        expected = loss("simple").measure(estimate(space))
        torch.testing.assert_close(loss("simple", space=space).measure(ours), expected, rtol=1e-6, atol=1e-12)


def test_the_least_noise_is_jits():
    """Li & He 2025, in their words: z = t x + (1 - t) e, v = (x - z) / max(1 - t, 0.05), the loss |v_pred - v|^2."""
    belief = estimate("x0")
    at, x, prediction = belief.noisy.at, belief.noisy.x_0, belief.output
    t = at.signal / (at.signal + at.sigma)
    z = t * x + (1 - t) * belief.noisy.epsilon
    flow, of_prediction = ((image - z) / (1 - t).clamp(min=0.05) for image in (x, prediction))
    ours = loss("simple", space="flow", least_noise=0.05).measure(belief)
    torch.testing.assert_close(ours, (flow - of_prediction).square().mean(dim=(1, 2, 3)))
    assert ours[0] < loss("simple", space="flow").measure(belief)[0]  # t = 1 is clipped
    with pytest.raises(UserError, match=r"loss\.simple\.least_noise"):
        small(diffusion={"loss": {"name": "simple", "simple": {"least_noise": 0.05}}})


def test_the_published_weights():
    x_0 = estimate("x0")
    ratio, squared = (x_0.noisy.at.alpha_bar / (1 - x_0.noisy.at.alpha_bar)).flatten(), x_0.squared_error()
    torch.testing.assert_close(loss("min_snr", gamma=3.0).measure(estimate("v")), ratio.clamp(max=3) * squared)
    offset, v = loss("min_snr", gamma=3.0, offset=1.0), estimate("v")
    torch.testing.assert_close(offset.measure(v), (ratio + 1).clamp(max=3) / (ratio + 1) * v.squared_error())
    epsilon = estimate("epsilon")
    published = epsilon.squared_error() / (2 + ratio) ** 0.5
    torch.testing.assert_close(loss("p2", k=2.0, gamma=0.5).measure(epsilon), published)
    torch.testing.assert_close(loss("min_snr").measure(epsilon), (5 / ratio).clamp(max=1) * epsilon.squared_error())


@pytest.mark.parametrize("parts", [1, 3])
def test_a_contrast_moves_the_target_away_from_that_of_the_next_image(parts):
    """The gradient, also of a batch in parts, is that of an error to (target - weight other) / (1 - weight)."""
    train = {"horizontal_flip": True, "augmentation": {"name": "non_leaking", "non_leaking": {"p": 0.5}}}
    config = small(diffusion={"loss": {"name": "contrastive"}}, train=train, model=TINY)
    trainer = Trainer(config.training(), pictures(16), CPU)
    _, _, batch = trainer.draw_batch(1)
    chain, target_of = trainer.student.chain, trainer.config.diffusion.parameterization.target
    ours, expected = [], []
    for part in batch.split(parts):
        output = torch.zeros_like(part.x_0, requires_grad=True)
        network = Mock(return_value=output, chain=chain, variance=build("variances", "fixed_small"))
        network.diffuse = trainer.student.diffuse
        network.parameterization.target = target_of
        loss("contrastive", weight=0.2)(network, part).sum().backward()
        ours.append(output.grad)
        noisy = trainer.student.diffuse(part, part.t)
        rows = torch.tensor([(row + 1) % 8 for row in part.draws.rows])
        target = target_of(noisy.x_0, noisy.epsilon, noisy.at)
        other = target_of(batch.x_0[rows], part.draws.gaussian("contrast"), noisy.at)
        expected.append(-2 * 0.8 * (target - 0.2 * other) / 0.8 / target[0].numel())
    torch.testing.assert_close(torch.cat(ours), torch.cat(expected))


@pytest.mark.parametrize("variance", variant.names("variances"))
def test_vlb_is_the_divergence_that_is_found_by_summing_over_the_values_of_a_pixel(variance):
    """T times the mean over the pixels, in bits: KL(q(x_{t-1} | x_t, x_0) || p), q by Bayes' rule from equations 2 and
    4 instead of equation 7, and at t = 1 the likelihood, whose own test is in tests/diffusion."""
    case = estimate("mean", variance=variance)
    noisy, chain = case.noisy, case.network.chain.schedule
    believed = case.network.parameterization.predict(case.output.detach(), noisy.x_t, noisy.at).x_0
    deviation = (case.network.variance.log_variance(noisy.at, case.variance_output) / 2).exp().expand_as(believed)
    expected = []
    for i, t in enumerate(STEPS.tolist()):
        x_0, x_t, sd = noisy.x_0[i].flatten(), noisy.x_t[i].flatten(), deviation[i].flatten()
        guess = believed[i].flatten()
        if t == 1:
            nats = -float(discretized_log_likelihood(x_0, guess, 2 * sd.log()).mean())
        else:
            beta, before = chain.beta[t - 1], chain.alpha_bar_prev[t - 1]
            root = (1 - beta) ** 0.5
            value = (x_t[:, None] + torch.linspace(-12, 12, 4001, dtype=torch.float64) * beta**0.5) / root  # of x_{t-1}
            likely = -(x_t[:, None] - root * value).square() / (2 * beta)
            roots = (before**0.5 * image[:, None] for image in (x_0, guess))
            q, of_guess = ((likely - (value - each).square() / (2 - 2 * before)).log_softmax(1) for each in roots)
            mean = (of_guess.exp() * value).sum(1, keepdim=True)
            p = torch.distributions.Normal(mean, sd[:, None]).log_prob(value) + (value[:, 1:2] - value[:, :1]).log()
            nats = float((q.exp() * (q - p)).sum(1).mean())
        expected.append(T * nats / math.log(2))
    np.testing.assert_allclose(loss("vlb").measure(case).numpy(force=True), expected, rtol=1e-6)


def test_hybrid_trains_the_mean_by_simple_and_the_variance_by_vlb():
    gradients = []
    for name in ("hybrid", "simple", "vlb"):
        case = estimate("epsilon", grad=True)
        loss(name).measure(case).sum().backward()
        gradients.append((case.output.grad, case.variance_output.grad))
    hybrid, simple, vlb = gradients
    torch.testing.assert_close(hybrid[0], simple[0])
    torch.testing.assert_close(hybrid[1], 0.001 * vlb[1])
    assert simple[1] is None
    assert (vlb[0].flatten(1).abs().sum(1) > 0).all()
    assert (hybrid[1].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_vlb_has_a_finite_gradient_at_every_t_in_float32_however_wrong_the_network(parameterization):
    t, generator = torch.arange(1, 1001), torch.Generator().manual_seed(0)
    x_0, epsilon, output = torch.randn(3, 1000, 1, 2, 2, generator=generator)
    told, spread = build("parameterizations", parameterization), build("variances", "learned_range")
    for schedule, size in product(variant.names("schedules"), (0.0, 100.0)):
        chain = Chain(build("schedules", schedule).noise_schedule(1000))
        noisy = NoisyBatch(x_0.clamp(-1, 1), epsilon, q_sample(x_0.clamp(-1, 1), epsilon, chain.at(t)), t, chain.at(t))
        outputs = [(size * output).requires_grad_(), torch.zeros_like(output).requires_grad_()]
        network = SimpleNamespace(chain=chain, parameterization=told, variance=spread)
        found = loss("vlb").measure(Estimate(network, noisy, *outputs))
        found.sum().backward()
        for values in (found, *(each.grad for each in outputs)):
            assert values.isfinite().all(), (schedule, size)


def trains_zero_snr(chosen: Loss) -> bool:
    schedule = build("schedules", "cosine", zero_terminal_snr=True)
    return not [*chosen.refusals(schedule, T, build("parameterizations", "v"))]


FIELDS = [(name, {}) for name in variant.names("losses")]


@pytest.mark.parametrize(("name", "fields"), [*FIELDS, ("min_snr", {"offset": 1.0}), ("simple", {"space": "epsilon"})])
def test_without_signal_a_loss_that_has_no_gradient_is_refused(name, fields):
    chosen, case = loss(name, **fields), estimate("v", grad=True)
    at = case.noisy.at
    zero_snr = at._replace(signal=torch.zeros_like(at.signal), sigma=torch.ones_like(at.sigma))
    chosen.measure(case._replace(noisy=replace(case.noisy, at=zero_snr, x_t=case.noisy.epsilon))).sum().backward()
    assert bool(case.output.grad.any()) == trains_zero_snr(chosen)


PAIRS = {(name, "v") for name in variant.names("losses")} | {("simple", name) for name in PARAMETERIZATIONS}


@pytest.mark.parametrize(("name", "parameterization"), sorted(PAIRS))
def test_every_loss_and_every_parameterization_trains_and_the_loss_falls(name, parameterization):
    """tests/whole/test_combinations.py has every pair."""
    zero_snr = {"zero_terminal_snr": trains_zero_snr(loss(name)) and parameterization != "epsilon"}
    diffusion = {"T": 50, "schedule": {"name": "cosine", "cosine": zero_snr}, "loss": {"name": name}}
    diffusion |= {"parameterization": {"name": parameterization}}
    diffusion |= {"variance": {"name": "learned_range" if 2 in loss(name).outputs else "fixed_small"}}
    train = {"steps": STEPS_TO_FALL, "batch_size": 8, "learning_rate": 6e-3, "gradient_clip": 1.0}
    sampler = "consistency" if name == "consistency" else "ddim"
    config = small(diffusion=diffusion, train=train, model=TINY, sample={"sampler": {"name": sampler}})
    trainer = Trainer(config.training(), pictures(16), CPU)
    before = mean_loss(trainer)
    for step in range(1, STEPS_TO_FALL + 1):
        trainer.step(step)
    assert mean_loss(trainer) < before < math.inf
