"""The smallest possible error, against brute force, and what is said of models of which the truth is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.diffusion.chain import Chain, from_images
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Parameterization
from ddpm.evaluation import likelihood
from ddpm.evaluation.likelihood import Array, LikelihoodJob
from ddpm.sampling.denoiser import Denoiser
from examples import least_error
from examples.least_error import Gallery
from tests.small import CPU, small

SEED = 3
DIGITS = Path(__file__).parents[2] / "models/digits/model.safetensors"  # it has classes
TIMESTEPS = 12


def diffusion(target: str = "v", schedule: str = "cosine", T: int = 40) -> Diffusion:
    return small(diffusion={"T": T, "schedule": {"name": schedule}, "parameterization": {"name": target}}).diffusion


def grey(count: int, seed: int = 0) -> np.ndarray:
    """Images so alike that at every noise level but the lowest several of them are likely."""
    return np.random.default_rng(seed).integers(118, 138, (count, 1, 4, 4)).astype(np.uint8)


class Ideal(torch.nn.Module):
    """Predicts the target of E[x_0 | x_t] over the images (of the label's class), computed without any shortcut."""

    def __init__(self, images: np.ndarray, chosen: Diffusion, labels: Tensor | None = None):
        super().__init__()
        self.images, self.labels = from_images(torch.from_numpy(images)).double(), labels
        self.chain = Chain(chosen.schedule.noise_schedule(chosen.T), dtype=torch.float64)
        self.parameterization: Parameterization = chosen.parameterization

    def forward(self, seen: Tensor, t: Tensor, labels: Tensor | None = None, _: None = None) -> Tensor:
        at = self.chain.at(t)
        x_t = seen.double() / self.parameterization.network_input(torch.ones_like(seen).double(), at)
        squares = (x_t[:, None] - at.signal[:, None] * self.images).square().flatten(2).sum(2)
        exponents = -squares / (2 * at.sigma.flatten(1).square())
        if labels is not None and self.labels is not None:
            exponents = exponents.masked_fill(labels[:, None] != self.labels, -torch.inf)
        x_0 = torch.einsum("bn,nchw->bchw", exponents.softmax(1), self.images)
        return self.parameterization.target(x_0, (x_t - at.signal * x_0) / at.sigma, at).float()


def model_error(network: torch.nn.Module, chosen: Diffusion, images: np.ndarray, labels: Tensor | None = None) -> Array:
    denoiser = Denoiser(network, chosen, CPU, torch.float32, clip=True)
    asked = LikelihoodJob(images, 16, CPU, SEED, labels=labels)
    return likelihood.bound(denoiser, denoiser.chain.schedule, chosen.variance, asked, TIMESTEPS).mse


def optimum(chosen: Diffusion, queries: np.ndarray, gallery: Gallery, labels: Tensor | None = None) -> Array:
    chain = chosen.schedule.noise_schedule(chosen.T)
    return least_error.least_errors(chain, gallery, LikelihoodJob(queries, 16, CPU, SEED, labels=labels), TIMESTEPS)


@pytest.mark.parametrize(("target", "schedule"), [("epsilon", "linear"), ("x0", "cosine"), ("v", "karras")])
def test_the_ideal_denoiser_has_no_excess_whatever_its_target_and_schedule(target, schedule, monkeypatch):
    """Also where the images come in blocks, and among those of a class."""
    monkeypatch.setattr(least_error, "BLOCK", 7)
    monkeypatch.setattr(least_error, "BATCH", 3)
    train, chosen, classes = grey(40), diffusion(target, schedule), torch.arange(40) % 3
    for queries, labels in (
        (train[:6], None), (grey(6, seed=1), None), (np.full((1, 1, 4, 4), 255, np.uint8), None), (train[:6], classes)
    ):  # fmt: skip
        own = model_error(Ideal(train, chosen, labels), chosen, queries, labels)
        best = optimum(chosen, queries, Gallery(torch.from_numpy(train).flatten(1), labels), labels)
        np.testing.assert_allclose(own, best, rtol=1e-3, atol=1e-5)
        assert best.max() > 0.01  # not only the lowest noise levels, where one image has all the weight


@pytest.mark.parametrize(("excess", "by_heart", "words"), [
    (1.0, 1.0, ["converged within", "no sign that", "no sign of memorising"]),
    (1.2, 1.0, ["within", "limited by capacity or training at t = 3 to 6: up to 2", "no sign of memorising"]),
    (1.0, 0.5, ["converged within", "no sign that", "memorising at t = 1 to 2: its error is up to 5"]),
])  # fmt: skip
def test_what_is_said_of_a_model_of_which_the_truth_is_known(excess, by_heart, words):
    """Six noise levels; at the lowest two the train images are known by heart, and nobody knows the least error."""
    least = np.array([0.02, 0.05, 0.1, 0.3, 0.6, 0.9])
    of_image = 1 + 0.01 * np.random.default_rng(0).standard_normal((64, 6))
    train = least_error.Errors(
        excess * least * [by_heart, by_heart, 1, 1, 1, 1] * of_image, least * [0, 0, 1, 1, 1, 1] * of_image
    )
    held_out = least_error.Errors(excess * least * of_image, least * [99, 50, 1, 1, 1, 1] * of_image)
    levels = least_error.Levels(np.arange(1, 7), np.ones(6, int), np.linspace(5, -5, 6), train, held_out)
    said = least_error.diagnose(levels)
    assert len(said) == len(words)
    assert all(sentence.startswith(begin) for sentence, begin in zip(said, words, strict=True)), said


def test_the_script_prints_a_diagnosis_and_draws_a_picture(digits, tmp_path, capsys):
    given = ["--model", str(DIGITS), "--processed", str(digits), "--images", "8", "--timesteps", "6"]
    least_error.main([*given, "--out", str(tmp_path / "x.png")])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "smallest possible error" in first
    assert last.startswith(str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").stat().st_size > 1000
