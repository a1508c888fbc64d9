"""Every loss in the folder: one weighting for all parameterizations, and every allowed combination trains."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import get_args
from unittest.mock import Mock

import pytest
import torch

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.batch import NoisyBatch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.loss import Estimate, Loss, Space
from ddpm.training.trainer import Trainer
from tests.small import TINY, build, loss_at, pictures, small

T = 100
STEPS = torch.tensor([1, 2, 10, 50, 80, 100])
STEPS_TO_FALL = 3  # every loss falls by 3% or more within them
PARAMETERIZATIONS = variant.names("parameterizations")


loss = partial(build, "losses")


def estimate(parameterization: str, grad: bool = False) -> Estimate:
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
    network = SimpleNamespace(chain=chain, parameterization=told)
    return Estimate(network, NoisyBatch(x_0, epsilon, x_t, STEPS, at), output)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", ["min_snr", "p2"])
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
    trainer = Trainer(config.training(), pictures(16), torch.device("cpu"))
    _, _, batch = trainer.draw_batch(1)
    chain, target_of = trainer.student.chain, trainer.config.diffusion.parameterization.target
    ours, expected = [], []
    for part in batch.split(parts):
        output = torch.zeros_like(part.x_0, requires_grad=True)
        network = Mock(return_value=output, chain=chain)
        network.parameterization.target = target_of
        loss("contrastive", weight=0.2)(network, part).sum().backward()
        ours.append(output.grad)
        noisy = part.diffuse(chain, part.t)
        rows = torch.tensor([(row + 1) % 8 for row in part.rows])
        target = target_of(noisy.x_0, noisy.epsilon, noisy.at)
        other = target_of(batch.x_0[rows], part.gaussian("contrast"), noisy.at)
        expected.append(-2 * 0.8 * (target - 0.2 * other) / 0.8 / target[0].numel())
    torch.testing.assert_close(torch.cat(ours), torch.cat(expected))


def trains_zero_snr(chosen: Loss) -> bool:
    return not [*chosen.refusals(build("schedules", "cosine", zero_terminal_snr=True), T)]


FIELDS = [(name, {}) for name in variant.names("losses")]


@pytest.mark.parametrize(("name", "fields"), [*FIELDS, ("min_snr", {"offset": 1.0}), ("simple", {"space": "epsilon"})])
def test_without_signal_a_loss_that_has_no_gradient_is_refused(name, fields):
    chosen, case = loss(name, **fields), estimate("v", grad=True)
    zero_snr = case.noisy.at._replace(
        signal=torch.zeros_like(case.noisy.at.signal), sigma=torch.ones_like(case.noisy.at.sigma)
    )
    chosen.measure(case._replace(noisy=replace(case.noisy, at=zero_snr, x_t=case.noisy.epsilon))).sum().backward()
    assert bool(case.output.grad.any()) == trains_zero_snr(chosen)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", variant.names("losses"))
def test_every_pair_trains_and_its_loss_falls(name, parameterization):
    zero_snr = {"zero_terminal_snr": trains_zero_snr(loss(name)) and parameterization != "epsilon"}
    diffusion = {"T": 50, "schedule": {"name": "cosine", "cosine": zero_snr}, "loss": {"name": name}}
    diffusion |= {"parameterization": {"name": parameterization}}
    train = {"steps": STEPS_TO_FALL, "batch_size": 8, "learning_rate": 6e-3, "gradient_clip": 1.0}
    sampler = "consistency" if name == "consistency" else "ddim"
    config = small(diffusion=diffusion, train=train, model=TINY, sample={"sampler": {"name": sampler}})
    trainer = Trainer(config.training(), pictures(16), torch.device("cpu"))
    t, place = torch.arange(1, 51), torch.arange(50)
    x_0, epsilon = trainer.batches(1)[place % 8], noise.gaussian(0, "test", place, 0, trainer.shape)
    before = loss_at(trainer, x_0, epsilon, t)
    for step in range(1, STEPS_TO_FALL + 1):
        trainer.step(step)
    assert loss_at(trainer, x_0, epsilon, t) < before < math.inf
