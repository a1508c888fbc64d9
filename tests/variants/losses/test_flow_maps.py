"""Objectives and samplers for few steps, on data whose probability-flow ODE is solved: the mixture's, and a Gaussian's.

A target is linear in x_0 and epsilon, so with E[x_0 | x_t] in place of x_0 it is its own mean, which is what a network
learns: there the exact flow map has no loss.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from ddpm.compute import noise
from ddpm.diffusion.batch import NoisyBatch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.model.model_file import load_model, save_model
from ddpm.sampling import guidance
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.peers import exact
from tests.small import CPU, TINY, build, given, pictures, small

T = 1000
MAPS = ["consistency", "mean_flow", "shortcut"]
DATA = {"gaussian": exact.gaussian_truth(), "mixture": exact.pictured(3, (1, 1, 2), ratio=0.6)}
# the angle of a step in radians, from 0 at the image: the chains of the flow's own time, and of even angles
ANGLES = {"flow": lambda t: torch.atan2(t / (T + 1), 1 - t / (T + 1)), "v": lambda t: t * (math.pi / 2 / (T + 1))}


class Exact:
    """The exact flow map as a network that predicts the parameterization's target; differentiable in x, t and span."""

    def __init__(self, truth: exact.Truth, target: str):
        self.truth, self.angle, self.total = truth, ANGLES[target], 1000
        self.parameterization = build("parameterizations", target)
        log_snr = -2 * self.angle(torch.arange(1, T + 1).double()).tan().log()
        self.chain = Chain(NoiseSchedule(log_snr.numpy(), np.arange(1, T + 1)), dtype=torch.float64)

    def __call__(self, batch, x: Tensor, t: Tensor, at, s: Tensor, precise: bool = False) -> Tensor:
        start, end, span = self.angle(t.double()), self.angle(s.double()), t - s
        x_0 = self.truth.posterior_mean(x, start.cos(), start.sin())
        denoiser = Prediction(x_0, (x - start.cos().view(-1, 1, 1, 1) * x_0) / start.sin().view(-1, 1, 1, 1))
        mapped = exact.pair(x, exact.flow(self.truth, x, start, end, steps=40), start, end)
        still = (span == 0).view(-1, 1, 1, 1)
        image, epsilon = (torch.where(still, *both) for both in zip(denoiser[:2], mapped[:2], strict=True))
        signal, sigma = start.cos().view(-1, 1, 1, 1), start.sin().view(-1, 1, 1, 1)  # not the chain's: t has a slope
        at = self.chain.at(t.detach().long())._replace(signal=signal, sigma=sigma)
        return self.parameterization.target(image, epsilon, at)

    def diffuse(self, batch, t: Tensor) -> NoisyBatch:
        at, epsilon = self.chain.at(t), batch.draws.gaussian("train")
        return NoisyBatch(batch.x_0, epsilon, q_sample(batch.x_0, epsilon, at), t, at)

    def loss(self, loss, done: float) -> Tensor:
        """The exact flow map's mean squared error, (B,), at random t, with the exact denoiser's x_0 and epsilon."""
        place = torch.arange(32)
        batch = given(place, place, (noise.uniform(0, "t", place, 0) * T).long() + 1, step=round(done * self.total) + 1)
        t, rows = batch.t.clone(), batch.draws.one_of(loss.every)
        t[rows], _ = loss.times(batch[rows], T)
        labels = (noise.uniform(0, "label", place, 0) * len(self.truth.weights)).long()
        pixels, rank = self.truth.factors.shape[1:]
        normals = [noise.gaussian(0, name, place, 0, (size,)).double() for name, size in [("p", pixels), ("f", rank)]]
        at = self.chain.at(t)
        epsilon = noise.gaussian(0, "epsilon", place, 0, tuple(self.truth.shape)).double()
        x_t = at.signal * self.truth.draw(labels, *normals) + at.sigma * epsilon
        x_0 = self.truth.posterior_mean(x_t, at.signal.flatten(), at.sigma.flatten())
        draws = replace(batch.draws, epsilon=(x_t - at.signal * x_0) / at.sigma)
        exactly = replace(batch, x_0=x_0, others=x_0[:0], draws=draws)
        return loss.model_copy(update={"power": 0.0})(self, exactly) - loss.c


def test_the_solver_agrees_with_the_gaussians_closed_form():
    """x_s = signal_s mean + (C_s C_t^-1)^1/2 (x_t - signal_t mean), for the covariances C of x at both levels."""
    x_t = noise.gaussian(0, "x", torch.arange(20), 0, (2, 1, 1)).double()
    start, end = torch.tensor([1.5]).double(), torch.tensor([0.2]).double()
    values, vectors = torch.linalg.eigh(exact.COVARIANCE)
    spread = [angle.cos() ** 2 * values + angle.sin() ** 2 for angle in (start, end)]
    along = (x_t.flatten(1) - start.cos() * exact.MEAN) @ vectors * (spread[1] / spread[0]).sqrt()
    expected = end.cos() * exact.MEAN + along @ vectors.T
    found = exact.flow(DATA["gaussian"], x_t, start, end, steps=100).flatten(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("target", "data"), [("v", "mixture"), ("flow", "gaussian")])
@pytest.mark.parametrize("name", MAPS)
def test_the_exact_flow_map_has_no_loss(name, target, data):
    loss = build("losses", name)
    exactly = Exact(DATA[data], target)
    errors = exactly.loss(loss, done=0.999)
    assert errors.shape == (32,)
    assert float(errors.mean()) < 1e-5
    if name == "consistency":  # whose target is r's, a step of the ODE away: of second order in its length
        assert float(exactly.loss(loss, done=0.7).mean()) > 20 * float(errors.mean())


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_flow_map_draws_the_odes_images_in_any_number_of_steps(steps, data):
    chain, truth = Exact(DATA[data], "v").chain, DATA[data]
    x_T = noise.gaussian(0, "x_T", torch.arange(20), 0, tuple(truth.shape)).double()
    visited = Chain(chain.schedule.respace(np.arange(1, steps + 1) * T // steps), dtype=torch.float64)
    denoise = exact.MixtureData(chain.schedule, truth)
    *_, x_0 = build("samplers", "flow_map").steps(denoise, x_T, visited, lambda t: x_T, None)
    ends = torch.tensor([math.pi / 2 * T / (T + 1)]).double(), torch.zeros(1).double()
    torch.testing.assert_close(x_0, exact.flow(truth, x_T, *ends, steps=200), rtol=0, atol=1e-3)


def config(name: str, sampler: str = "", **train: object):
    """The small config with that loss, in two steps by its own sampler."""
    sampler = sampler or {"consistency": "consistency", "simple": "ddim"}.get(name, "flow_map")
    drawn = {"sampler": {"name": sampler}, "steps": 2, "spacing": "trailing"}
    return small(diffusion={"loss": {"name": name}}, model=TINY, train=train, sample=drawn)


def test_mean_flows_maps_end_anywhere_below_their_start():
    place = torch.arange(2000)
    t, s = build("losses", "mean_flow").times(given(place, place, torch.full((2000,), T)), T)
    assert (t == T).all()
    assert stats.kstest((s.double() / T).numpy(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", MAPS)
def test_a_batch_in_parts_and_in_another_layout_is_taught_the_same(name):
    layouts = [{"accumulate": 1}, {"accumulate": 4, "channels_last": True}]
    whole, parts = (Trainer(config(name, **train).training(), pictures(16), CPU) for train in layouts)
    for step in (1, 2, 3):
        torch.testing.assert_close(whole.step(step), parts.step(step), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_a_model_file_keeps_where_steps_end_and_draws(name, tmp_path):
    chosen = config(name)
    trainer = Trainer(chosen.training(), pictures(16), CPU)
    for step in range(1, 7):
        trainer.step(step)
    save_model(tmp_path / "model.safetensors", trainer.student.averages.shipped, chosen.training(), {})
    model = load_model(tmp_path / "model.safetensors", CPU)
    assert (model.network.span is not None) == (name != "consistency")
    generator = Generator.of(model, chosen.sample, CPU)
    drawn = generator.images(range(4), 0)
    assert guidance.evaluations(chosen.sample, chosen.diffusion) == 2
    assert len({image.numpy().tobytes() for image in drawn}) == 4
    if name != "consistency":
        t = torch.full((2,), 30)
        x = noise.gaussian(0, "x", torch.arange(2), 0, trainer.shape)
        denoise = generator.denoiser.estimate
        torch.testing.assert_close(denoise(x, t, None, 30)[:2], denoise(x, t, None)[:2])
        assert not torch.allclose(denoise(x, t, None, 10).x_0, denoise(x, t, None).x_0)
