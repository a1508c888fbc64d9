"""The bound on the likelihood, against a Gaussian in closed form and against terms computed in another way."""

import math
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.chain import Chain, from_images
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.evaluation import bounds, likelihood
from ddpm.evaluation.likelihood import Bound, Denoises, LikelihoodJob
from ddpm.model.model_file import Loaded
from ddpm.sampling.denoiser import Denoiser
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.training.trainer import Trainer
from tests.peers import exact
from tests.small import CPU, TINY, build, given, pictures, small

BITS = math.log(2)
MEAN, SD = 0.1, 0.2  # of the one-pixel images of the closed form
TRUTH = exact.truth([1.0], torch.tensor([[MEAN]]).double(), torch.tensor([[[SD**2]]]).double())


def schedule(T: int, name: str = "cosine"):
    return build("schedules", name).noise_schedule(T)


def pixels(count: int) -> np.ndarray:
    """One-pixel images of N(MEAN, SD^2), to the nearest grey level."""
    x = np.random.default_rng(0).normal(MEAN, SD, (count, 1, 1, 1))
    return np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)


def crude(x_t: Tensor, t: Tensor) -> Prediction:
    """A wrong prediction with an error that depends on x_t and t."""
    x_0 = torch.tanh(1.2 * x_t + 0.01 * t[:, None, None, None])
    return Prediction(x_0, torch.sin(3 * x_t), torch.cos(x_t))


def bound(denoiser: Denoises, chain, images: np.ndarray, timesteps: int, reverse="fixed_small", **job: int) -> Bound:
    asked = LikelihoodJob(images, device=CPU, **{"batch_size": 500, "seed": 0, **job})
    return likelihood.bound(denoiser, chain, build("variances", reverse), asked, timesteps)


def noisy_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 1, 3, 3), dtype=np.uint8)


def test_with_a_perfect_denoiser_and_many_steps_the_bound_comes_down_to_the_entropy():
    entropy = (0.5 * math.log(2 * math.pi * math.e * SD**2) + math.log(127.5)) / BITS
    chains, images = (schedule(30), schedule(1000)), pixels(2000)
    found = (bound(exact.denoises(TRUTH, chain), chain, images, 29, "fixed_large") for chain in chains)
    few, many = (each.bits_per_dim.mean() for each in found)
    assert entropy - 0.02 < many < min(entropy + 0.15, few)


def test_what_the_chain_leaves_of_the_image_is_in_the_bound():
    """Of a chain of one step with a blind denoiser: KL(q(x_1 | x_0) || N(0, 1)) and -log p(x_0), p = N(0, beta_1)."""
    chain, images = NoiseSchedule(np.array([2.0]), np.array([1])), noisy_images(5) // 4 + 96  # no level of the ends
    x_0, sd = images / 127.5 - 1, chain.beta[0] ** 0.5
    q = torch.distributions.Normal(torch.from_numpy(chain.alpha_bar[0] ** 0.5 * x_0), sd)
    prior = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).numpy()
    decoder = -np.log(stats.norm.cdf((x_0 + 1 / 255) / sd) - stats.norm.cdf((x_0 - 1 / 255) / sd))
    found = bound(lambda x, t: Prediction(0 * x, x), chain, images, 3).bits_per_dim
    assert found == pytest.approx((prior + decoder).mean((1, 2, 3)) / BITS, rel=1e-5)


@pytest.mark.parametrize("reverse", ["fixed_large", "learned_range"])
def test_a_term_is_the_one_computed_from_distributions(reverse):
    chain = schedule(40, "linear")
    table = Chain(chain, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x_0 = from_images(torch.from_numpy(noisy_images(5) // 4 + 96)).double()
    epsilon = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    t = torch.tensor([1, 2, 7, 39, 40])
    bits, mse = likelihood.term(crude, table, build("variances", reverse), x_0, epsilon, t)
    betas = chain.beta
    alpha_bar = np.cumprod(1 - betas)
    for i, step in enumerate(t.tolist()):
        a_bar, beta = alpha_bar[step - 1], betas[step - 1]
        a_bar_prev = alpha_bar[step - 2] if step > 1 else 1.0
        clean, noise = x_0[i].numpy(), epsilon[i].numpy()
        x_t = (math.sqrt(a_bar) * clean + math.sqrt(1 - a_bar) * noise).astype(np.float32).astype(float)
        guess = np.tanh(1.2 * x_t + 0.01 * step)

        def mean(image: np.ndarray, x_t: np.ndarray = x_t, a: float = a_bar, b: float = beta, p: float = a_bar_prev):
            return (math.sqrt(p) * b * image + math.sqrt(1 - b) * (1 - p) * x_t) / (1 - a)

        tilde = (1 - a_bar_prev) / (1 - a_bar) * beta
        low = tilde if step > 1 else (1 - alpha_bar[0]) / (1 - alpha_bar[1]) * betas[1]
        sd = np.full_like(x_t, math.sqrt(beta if step > 1 else low))
        if reverse == "learned_range":  # of which crude's output is the cosine of x_t
            sd = np.sqrt(beta ** ((np.cos(x_t) + 1) / 2) * low ** ((1 - np.cos(x_t)) / 2))
        if step == 1:
            upper = np.where(clean > 0.999, np.inf, clean + 1 / 255)
            lower = np.where(clean < -0.999, -np.inf, clean - 1 / 255)
            nats = -np.log(stats.norm.cdf(upper, mean(guess), sd) - stats.norm.cdf(lower, mean(guess), sd))
        else:
            p = torch.distributions.Normal(torch.from_numpy(mean(guess)), torch.from_numpy(sd))
            q = torch.distributions.Normal(torch.from_numpy(mean(clean)), math.sqrt(tilde))
            nats = torch.distributions.kl_divergence(q, p).numpy()
        assert float(bits[i]) == pytest.approx(nats.mean() / BITS, rel=1e-4)
        error = np.square(np.sin(3 * x_t) - noise).mean()
        assert float(mse[i]) == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize(("parameterization", "variance"), [("epsilon", "fixed_large"), ("mean", "learned_range")])
def test_the_loss_vlb_summed_over_the_steps_is_the_bound(parameterization, variance):
    """Of a network with random weights, for the same images and noise, term by term."""
    families = {"parameterization": parameterization, "variance": variance, "loss": "vlb"}
    diffusion = {"T": 30, **{family: {"name": name} for family, name in families.items()}}
    student = Trainer(small(diffusion=diffusion, model=TINY).training(), pictures(4), CPU).student
    generator = torch.Generator().manual_seed(0)
    for weight in student.network.eval().parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=generator)
    denoiser = Denoiser(student.network, student.diffusion, CPU, torch.float32, clip=False)
    asked = LikelihoodJob(pictures(4), 4, CPU, seed=0)
    whole = likelihood.bound(denoiser, student.chain.schedule, student.variance, asked, 29)
    index, x_0 = torch.arange(4), from_images(torch.from_numpy(asked.images))
    terms = []
    with torch.no_grad():
        for t in range(1, 31):
            epsilon = noise.gaussian(0, "likelihood", index, t, x_0.shape[1:])
            batch = given(x_0, epsilon, torch.full((4,), t), layers=len(student.dropout))
            terms.append(student.diffusion.loss(student, batch) / 30)
    terms = torch.stack(terms, dim=1).double().numpy()
    np.testing.assert_allclose(terms, whole.terms, rtol=2e-4)
    np.testing.assert_allclose(terms.sum(1) + whole.prior, whole.bits_per_dim, rtol=1e-4)


def test_few_strata_agree_with_the_whole_sum_on_the_average():
    chain, images = schedule(20), noisy_images(20)
    whole, few = (
        np.array([bound(crude, chain, images, count, seed=seed).bits_per_dim.mean() for seed in range(trials)])
        for count, trials in ((19, 6), (3, 40))
    )
    error = math.hypot(whole.std() / math.sqrt(len(whole)), few.std() / math.sqrt(len(few)))
    assert few.mean() == pytest.approx(whole.mean(), abs=4 * error)
    assert error < 0.04 * whole.mean()


def test_an_image_has_its_own_noise_whatever_the_batch():
    chain, images = schedule(30), noisy_images(7)
    whole, parts = (bound(crude, chain, images, 5, batch_size=size) for size in (7, 3))
    np.testing.assert_array_equal(whole.terms, parts.terms)
    np.testing.assert_array_equal(whole.mse, parts.mse)
    assert (bound(crude, chain, images, 5, seed=1).terms != whole.terms).any()


@hypothesis.given(st.integers(1, 3000), st.integers(1, 200))
def test_strata_are_t_1_alone_and_then_every_t_once(T, timesteps):
    first, steps = likelihood.strata(T, timesteps)
    assert [t for low, count in zip(first, steps, strict=True) for t in range(low, low + count)] == [*range(1, T + 1)]
    assert len(first) == 1 + min(timesteps, T - 1)
    assert steps[0] == 1
    assert (steps >= 1).all()


@pytest.mark.parametrize("name", variant.names("schedules"))
def test_it_is_finite_on_every_schedule(name):
    chain = build("schedules", name, zero_terminal_snr=True).noise_schedule(30)
    found = bound(crude, chain, noisy_images(3), 6)
    assert np.isfinite(found.bits_per_dim).all()
    assert (found.prior >= -1e-12).all()
    assert (found.terms >= -1e-12).all()


def test_models_of_one_training_seed_share_the_noise_of_the_estimate(monkeypatch):
    monkeypatch.setattr(bounds, "open_split", lambda *_: (noisy_images(4), np.zeros(4, np.int64)))
    model = Loaded(torch.nn.Identity(), small().training().model_copy(update={"seed": 3}), {})
    job = bounds.Job(model, Path(), Path(), Evaluate(extractors=("classifier",)), CPU)
    assert bounds.likelihood_job(job, "train").seed == 3
