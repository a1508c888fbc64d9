"""Guidance against the exact score of a mixture of two Gaussians, and what it costs."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm.base import variant
from ddpm.compute.distributed import ALONE
from ddpm.data.processed import open_split
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.sampling import guidance
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.sampling.sample_params import Guidance
from stages import sample
from tests.peers import exact
from tests.small import CPU, DENOISING, PARAMS, small

SPREAD, NONE = torch.full((1, 1, 1), 0.3**2).double(), 2  # the variance of a class; the label of no class
CLASSES = [exact.truth([1.0], torch.tensor([[mean]]).double(), SPREAD) for mean in (-0.6, 0.4)]
MIXTURE = exact.truth([0.3, 0.7], torch.tensor([[-0.6], [0.4]]).double(), SPREAD.expand(2, 1, 1))


class Exact(nn.Module):
    """Outputs the parameterization's target for the exact x_0 of a pixel, given its class or none."""

    def __init__(self, diffusion):
        super().__init__()
        self.target, self.seen = diffusion.parameterization.target, diffusion.parameterization.network_input
        self.chain = Chain(diffusion.schedule.noise_schedule(diffusion.T), dtype=torch.float64)
        self.calls: list[int] = []  # the size of each batch

    def forward(self, seen: Tensor, t: Tensor, labels: Tensor | None = None, _: None = None) -> Tensor:
        self.calls.append(len(seen))
        at = self.chain.at(t)
        x_t = seen.double() / self.seen(torch.ones_like(seen).double(), at)
        epsilon = self.epsilon(x_t, at, torch.full_like(t, NONE) if labels is None else labels)
        return self.target((x_t - at.sigma * epsilon) / at.signal, epsilon, at)

    def epsilon(self, x_t: Tensor, at: Coefficients, labels: Tensor) -> Tensor:
        each = torch.stack([one.posterior_mean(x_t, at.signal, at.sigma) for one in (*CLASSES, MIXTURE)])
        return (x_t - at.signal * each[labels, torch.arange(len(x_t))]) / at.sigma


def diffusion(target: str = "v", **fields):
    return small(diffusion={"parameterization": {"name": target}, **fields}).diffusion


def denoiser(network: nn.Module, weight: float, target: str = "v", **options) -> Denoiser:
    return Denoiser(network, diffusion(target), CPU, torch.float32, False, Guidance(weight=weight, **options), NONE)


def batch() -> tuple[Tensor, Tensor]:
    return torch.linspace(-2, 2, 6).view(6, 1, 1, 1), torch.tensor([0, 1, 0, 1, 0, 1])


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("target", variant.names("parameterizations"))
def test_the_guided_score_is_the_exact_one_for_every_target_in_one_call(target, weight):
    x_t, labels = batch()
    network = Exact(diffusion(target))
    for t in (5, 25, 45):
        network.calls.clear()
        found = denoiser(network, weight, target)(x_t, t, labels)
        assert network.calls == [6 if weight in {0, 1} else 12]
        at = network.chain.at(torch.full((6,), t))
        without, given = (network.epsilon(x_t.double(), at, each) for each in (torch.full_like(labels, NONE), labels))
        expected = (without + weight * (given - without)).float()
        torch.testing.assert_close(found.epsilon.float(), expected, rtol=1e-4, atol=1e-4)
        mixed = at.signal * found.x_0 + at.sigma * found.epsilon
        torch.testing.assert_close(mixed.float(), x_t, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", variant.names("parameterizations"))
def test_a_contrast_is_guidance_away_from_the_mean_target_for_every_target(target):
    """(u - w m) / (1 - w) for the target u of each image, and m of the mean image without noise, as of contrastive flow
    matching's optimum; x_0 and epsilon still lead to x_t."""
    (x_t, labels), image, weight = batch(), torch.tensor([[[0.25]]]), 0.1
    network, target_of = Exact(diffusion(target)), diffusion(target).parameterization.target
    plain, contrasted = denoiser(network, 1.0, target), denoiser(network, 1.0, target)
    contrasted.contrast, contrasted.mean = weight, image
    for t in (5, 25):
        own, found, at = plain(x_t, t, labels), contrasted(x_t, t, labels), network.chain.at(torch.full((6,), t))
        mixed = at.signal * found.x_0 + at.sigma * found.epsilon
        torch.testing.assert_close(mixed.float(), x_t, rtol=1e-4, atol=1e-4)
        expected = (target_of(own.x_0, own.epsilon, at) - weight * target_of(image, 0 * image, at)) / (1 - weight)
        torch.testing.assert_close(target_of(found.x_0, found.epsilon, at), expected, rtol=1e-3, atol=1e-3)


def test_a_learned_variance_is_that_of_the_class_and_guidance_and_the_clamp_leave_it_alone():
    class Halves(nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor, _: None) -> Tensor:
            of_class = labels.view(-1, 1, 1, 1).expand_as(x_t).float()
            return torch.cat([of_class, 10 + of_class], dim=1)

    learned = diffusion("x0", variance={"name": "learned_range"}, loss={"name": "hybrid"})
    x_t, labels = batch()
    for weight in (1.0, 3.0):
        made = Denoiser(Halves(), learned, CPU, torch.float32, True, Guidance(weight=weight), NONE)
        found = made(x_t, 20, labels)
        assert found.variance_output.flatten().tolist() == [10 + label for label in labels.tolist()]
        assert found.x_0.flatten().tolist() == [max(-1, min(1, 2 + weight * (k - 2))) for k in labels.tolist()]


def test_outside_the_interval_there_is_none():
    x_t, labels = batch()
    network = Exact(diffusion())
    sigma = denoiser(network, 1.0).chain.schedule.one_minus_alpha_bar ** 0.5
    within = denoiser(network, 3.0, interval=(float(sigma[9]), float(sigma[19])))
    for t, calls in ((9, 6), (10, 12), (20, 12), (21, 6)):
        network.calls.clear()
        found = within(x_t, t, labels)
        assert network.calls == [calls]
        same = torch.equal(found.x_0, denoiser(network, 1.0)(x_t, t, labels).x_0)
        assert same == (calls == 6)


def config(**sections):
    model = {"name": "unet", "classes": 3, "unet": {**PARAMS["model"]["unet"], "zero_init": False}}
    return small(**{**sections, "model": {**model, **sections.get("model", {})}})


def model(seed: int = 0, **sections) -> Loaded:
    settings = config(**sections)
    torch.manual_seed(seed)
    facts = {"classes": {"names": ["a", "b", "c"], "counts": [1, 1, 2]}} if settings.model.classes else {}
    return Loaded(build.network(settings).eval().requires_grad_(False), settings.training(), facts)


@pytest.mark.parametrize("name", DENOISING)
def test_the_evaluations_that_are_reported_are_those_that_were_made(name):
    one = model()
    for guide in ({"weight": 1.0}, {"weight": 0.0}, {"weight": 2.0}, {"weight": 2.0, "interval": [0.3, 0.9]}):
        rows: list[int] = []
        handle = one.network.register_forward_hook(lambda _, given, __, rows=rows: rows.append(len(given[0])))
        options = config(sample={"sampler": {"name": name}, "steps": 6, "guidance": guide}).sample
        generator = Generator.of(one, options, CPU)
        generator.images([0, 1], 7)
        handle.remove()
        assert sum(rows) / 2 == guidance.evaluations(options, one.config.diffusion)
    assert sum(rows) / 2 > (11 if name == "heun" else 6)


def test_the_stage_contrasts_with_the_mean_train_image(digits, monkeypatch):
    means = []

    def see(*given) -> None:
        means.append(given[-1])
        raise InterruptedError

    monkeypatch.setattr(sample.averages, "load", lambda *_: None)
    monkeypatch.setattr(sample, "PROCESSED", digits)
    monkeypatch.setattr(Generator, "of", see)
    for contrast in (0.0, 0.1):
        with pytest.raises(InterruptedError):
            sample.main(config(sample={"contrast": contrast}).sample, CPU, ALONE)
    images = torch.from_numpy(np.array(open_split(digits, "train")[0])).double()
    assert means[0] is None
    torch.testing.assert_close(means[1], (images.mean(dim=0) / 127.5 - 1).float())
