"""The likelihood by the probability-flow ODE, against a mixture whose density is known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.compute.distributed import Ranks
from ddpm.diffusion.chain import from_images
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation import bounds, ode
from ddpm.evaluation.likelihood import Asked
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.params.config import Compare
from ddpm.scoring.evaluate_params import Evaluate, Likelihood
from ddpm.variants.datasets.mixture import Mixture
from ddpm.verdicts import metrics
from tests.peers.exact import denoises
from tests.small import pictures, small

CPU = torch.device("cpu")
PLANE = Mixture(components=3, size=(1, 2), ratio=0.6)
SPREAD = NoiseSchedule(2 * np.linspace(5.0, -7.0, 1601), np.arange(1, 1602))  # even in log-SNR


def gap(schedule: NoiseSchedule, steps: int) -> Tensor:
    """The log density's errors, in nats, at 30 points of the mixture. With the divergence itself in place of an
    estimate: (1, 1) and (1, -1) as probes have it as their mean."""
    truth = PLANE.truth()
    draw = np.random.default_rng(0)
    labels = torch.from_numpy(draw.choice(3, 30))
    points = truth.draw(labels, *(torch.from_numpy(draw.standard_normal((30, n))) for n in (2, 1)))
    visited = schedule.respace(ode.spacing.timesteps(schedule, steps + 1, "log_snr"))
    signal, sigma = (float(column[0] ** 0.5) for column in (visited.alpha_bar, visited.one_minus_alpha_bar))
    x = signal * points
    probes = (torch.tensor([1.0, sign]).double().expand(x.shape) for sign in (1, -1))
    found = sum(ode.log_density(denoises(truth, schedule), visited, x, probe) for probe in probes) / 2
    return found - truth.log_density(x, signal, sigma)


def test_the_density_is_the_known_one_and_its_error_falls_with_the_square_of_the_steps():
    coarse, fine = (gap(SPREAD, steps).square().mean().sqrt() for steps in (30, 60))
    assert fine < 0.02, "nats"
    assert 1.8 < math.log2(coarse / fine) < 2.3


@pytest.mark.parametrize(
    ("name", "fields"),
    [("linear", {}), ("linear", {"zero_terminal_snr": True}), ("cosine", {}), ("rectified_flow", {})],
)
def test_the_density_is_the_known_one_on_chains_that_are_used(name, fields):
    """To 0.015 nats, of two pixels, at 100 of 1,000 steps; the linear chain's rest of signal costs less."""
    schedule = variant.build("schedules", {"name": name, name: fields}, "schedule").noise_schedule(1000)
    assert gap(schedule, 100).square().mean().sqrt() < 0.015


def test_bits_per_dim_are_those_of_the_known_density():
    """On the average over images, with the noise of levels and of the divergence, within 4 standard errors."""
    mixture = Mixture(components=3, size=(3, 3))
    truth, count = mixture.truth(), 400
    draw = np.random.default_rng(0)
    labels = torch.from_numpy(draw.choice(3, count))
    x_0 = truth.draw(labels, *(torch.from_numpy(draw.standard_normal((count, n))) for n in (9, 1)))
    images = ((x_0 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    found = ode.bits_per_dim(denoises(truth, SPREAD), SPREAD, Asked(images.numpy(), 400, CPU, 0), 100)

    signal, sigma = (float(column[0] ** 0.5) for column in (SPREAD.alpha_bar, SPREAD.one_minus_alpha_bar))
    spread = from_images(images).double() + (torch.from_numpy(draw.random(x_0.shape)) - 0.5) * 2 / 255
    density = truth.log_density(signal * spread, signal, sigma) + 9 * math.log(signal)
    expected = -density / 9 / math.log(2) + math.log2(127.5)
    difference = found - expected.numpy()
    error = difference.std() / count**0.5
    assert error < 0.02
    assert abs(difference.mean()) < 4 * error


def crude(x_t: Tensor, t: Tensor) -> Prediction:
    x_0 = torch.tanh(1.2 * x_t + 0.01 * t[:, None, None, None])
    return Prediction(x_0, x_0)


def test_an_image_has_its_own_noise_whatever_the_batch_and_the_rank():
    schedule = variant.build("schedules", {"name": "cosine"}, "schedule").noise_schedule(30)
    images = pictures(7)
    whole, parts, other = (
        ode.bits_per_dim(crude, schedule, Asked(images, size, CPU, seed), 8) for size, seed in ((7, 0), (3, 0), (7, 1))
    )
    np.testing.assert_array_equal(whole, parts)
    assert (whole != other).all()
    shares = [ode.bits_per_dim(crude, schedule, Asked(images, 7, CPU, 0, Lone(rank, 2)), 8) for rank in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(shares), whole)


class Lone(Ranks):
    """One rank of several, which returns only what it computed itself."""

    def gather(self, tensor: Tensor, count: int) -> Tensor:
        return tensor


@pytest.mark.parametrize("name", variant.names("schedules"))
@pytest.mark.parametrize("T", [1, 2, 30])
def test_it_is_finite_on_every_schedule_and_any_number_of_steps(name, T):
    schedule = variant.build("schedules", {"name": name}, "schedule").noise_schedule(T)
    for steps in (1, 6, 1000):
        assert np.isfinite(ode.bits_per_dim(crude, schedule, Asked(pictures(2), 2, CPU, 0), steps)).all()


# --- as part of an evaluation


def test_a_model_has_it_only_if_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(bounds, "open_split", lambda *_: (pictures(), np.zeros(30, np.int64)))
    for variance in ("fixed_small", "learned_range"):
        loss = "hybrid" if variance == "learned_range" else "simple"
        config = small(diffusion={"variance": {"name": variance}, "loss": {"name": loss}}).training()
        torch.manual_seed(0)
        model = Loaded(build.network(config).eval().requires_grad_(False), config, {})

        def measured(likelihood: Likelihood, model: Loaded = model) -> dict[str, float]:
            settings = Evaluate(extractors=("classifier",), likelihood=likelihood)
            return bounds.ode_bits_per_dim(bounds.Job(model, Path(), Path(), settings, CPU))

        found = measured(Likelihood(images=5, ode_steps=10))
        assert found.keys() == {"bits_per_dim_ode", "bits_per_dim_ode_se"}
        assert 0 < found["bits_per_dim_ode_se"] < found["bits_per_dim_ode"] < 20
        assert measured(Likelihood(images=5)) == {}


def test_steps_without_images_are_refused():
    with pytest.raises(UserError, match=r"evaluate\.likelihood: ode_steps: 10 needs images above 0"):
        small(evaluate={"likelihood": {"ode_steps": 10}})


def test_it_is_judged_as_the_bound_is():
    settings = Compare()
    assert metrics.direction("bits_per_dim_ode") == "lower"
    assert metrics.margin("bits_per_dim_ode", 3.0, settings) == settings.floors["bits_per_dim"]
