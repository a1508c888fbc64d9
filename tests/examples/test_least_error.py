"""The smallest possible error, against brute force, and what is said of models of which the truth is known."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.diffusion.chain import Chain, from_images
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.diffusion_params import Diffusion
from ddpm.diffusion.parameterization import Parameterization, Prediction
from ddpm.evaluation import bounds, likelihood
from ddpm.evaluation.likelihood import Array, Denoises, LikelihoodJob
from ddpm.model.model_file import Loaded
from ddpm.sampling.denoiser import Denoiser
from ddpm.scoring.evaluate_params import Evaluate, Likelihood
from examples import least_error
from examples.least_error import Diagnosis, Errors, Gallery, Levels
from tests.peers import exact
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


def gallery_of(images: np.ndarray, labels: Tensor | None = None) -> Gallery:
    return Gallery(torch.from_numpy(images).flatten(1), labels)


def model_error(network: torch.nn.Module, chosen: Diffusion, images: np.ndarray, labels: Tensor | None = None) -> Array:
    denoiser = Denoiser(network, chosen, CPU, torch.float32, clip=True)
    asked = LikelihoodJob(images, 16, CPU, SEED, labels=labels)
    return likelihood.bound(denoiser, denoiser.chain.schedule, chosen.variance, asked, TIMESTEPS).mse


def optimum(chosen: Diffusion, queries: np.ndarray, gallery: Gallery, labels: Tensor | None = None) -> Array:
    chain = chosen.schedule.noise_schedule(chosen.T)
    return least_error.least_errors(chain, gallery, LikelihoodJob(queries, 16, CPU, SEED, labels=labels), TIMESTEPS)


@pytest.mark.parametrize(
    ("target", "schedule"),
    [*((name, "cosine") for name in variant.names("parameterizations")), ("v", "linear"), ("v", "karras")],
)
def test_the_ideal_denoiser_has_no_excess_whatever_its_target_and_schedule(target, schedule, monkeypatch):
    """Also where the images come in blocks."""
    monkeypatch.setattr(least_error, "VALUES", 100)
    monkeypatch.setattr(least_error, "BATCH", 3)
    train, chosen = grey(40), diffusion(target, schedule)
    for queries in (train[:6], grey(6, seed=1), np.full((1, 1, 4, 4), 255, np.uint8)):
        own = model_error(Ideal(train, chosen), chosen, queries)
        best = optimum(chosen, queries, gallery_of(train))
        np.testing.assert_allclose(own, best, rtol=1e-3, atol=1e-5)
        assert best.max() > 0.01  # not only the lowest noise levels, where one image has all the weight


def test_a_model_with_classes_is_measured_against_the_images_of_the_class():
    train, chosen = grey(40), diffusion()
    classes = torch.arange(40) % 4
    network, labels = Ideal(train, chosen, classes), classes[:8]
    given = optimum(chosen, train[:8], gallery_of(train, classes), labels)
    np.testing.assert_allclose(model_error(network, chosen, train[:8], labels), given, rtol=1e-3, atol=1e-5)
    assert given.sum() < optimum(chosen, train[:8], gallery_of(train)).sum()


def test_without_signal_there_is_nothing_to_learn_and_no_row():
    zero = {"name": "cosine", "cosine": {"zero_terminal_snr": True}}
    chosen = small(diffusion={"T": 12, "schedule": zero}).diffusion
    train = grey(20)
    best = optimum(chosen, train[:3], gallery_of(train))
    assert np.isfinite(best).all()
    assert not best[:, -1].any()
    both = Errors(best, best)
    levels = least_error.with_signal(chosen.schedule.noise_schedule(12), *likelihood.strata(12, TIMESTEPS), both, both)
    assert levels.first.tolist() == list(range(1, 12))
    assert np.isfinite(levels.log_snr).all()
    assert levels.held_out.optimum.shape == (3, 11)


def test_of_many_train_images_some_are_drawn_and_those_asked_about_are_among_them(monkeypatch):
    train = np.random.default_rng(0).integers(0, 256, (300, 1, 4, 4), dtype=np.uint8)
    config = small(evaluate={"likelihood": {"images": 5, "timesteps": 8}})
    monkeypatch.setattr(bounds, "open_split", lambda *_: (train, np.zeros(300, np.int64)))
    monkeypatch.setattr(least_error, "open_split", lambda *_: (train, np.zeros(300, np.int64)))
    model = Loaded(Ideal(train, config.diffusion), config.training(), {})
    settings = Evaluate(extractors=("classifier",), likelihood=Likelihood(images=40, timesteps=8))
    job = bounds.Job(model, Path(), Path(), settings, CPU)
    whole = least_error.measure(job).train
    np.testing.assert_allclose(whole.model, whole.optimum, rtol=1e-3, atol=1e-5)
    for most, images in (("MAX_IMAGES", 60), ("MAX_VALUES", 60 * 16)):
        with monkeypatch.context() as patch:
            patch.setattr(least_error, most, images)
            fewer = least_error.measure(job).train.optimum
        assert fewer[:, :2].max() < 1e-6  # an image that is not among them could not be found
        assert 0 < fewer.mean() < whole.optimum.mean()


Say = Callable[[str], tuple[Diagnosis, Levels]]


@pytest.fixture(scope="module")
def said() -> Say:
    """What is said of a denoiser of 200 images of a known mixture."""
    truth, chosen = exact.pictured(3, (1, 4, 4)), diffusion(T=200)
    train, test = np.split(truth.images(360)[0], [200])
    mean, covariance = truth.moments()
    variances, axes = torch.linalg.eigh(covariance)
    known = from_images(torch.from_numpy(train)).double()
    gallery = gallery_of(train)
    chain = chosen.schedule.noise_schedule(chosen.T)
    table = Chain(chain, dtype=torch.float64)

    def perfect(x_t: Tensor, at: Coefficients) -> Tensor:
        return truth.posterior_mean(x_t, at.signal.flatten(), at.sigma.flatten())

    def linear(x_t: Tensor, at: Coefficients) -> Tensor:
        """The best of those without any nonlinearity."""
        signal, sigma = at.signal.flatten(1), at.sigma.flatten(1)
        gain = signal * variances / (signal.square() * variances + sigma.square())
        return (mean + ((x_t.flatten(1) - signal * mean) @ axes * gain) @ axes.T).view_as(x_t)

    def memory(x_t: Tensor, at: Coefficients) -> Tensor:
        squares = (x_t[:, None] - at.signal[:, None] * known).square().flatten(2).sum(2)
        weights = (-squares / (2 * at.sigma.flatten(1).square())).softmax(1)
        return torch.einsum("bn,nchw->bchw", weights, known)

    def overfitted(x_t: Tensor, at: Coefficients) -> Tensor:
        return 0.8 * perfect(x_t, at) + 0.2 * memory(x_t, at)

    models = {each.__name__: each for each in (perfect, linear, memory, overfitted)}

    def denoises(name: str) -> Denoises:
        def predict(x_t: Tensor, t: Tensor) -> Prediction:
            at = table.at(t)
            x_0 = models[name](x_t.double(), at).clamp(-1, 1)
            return Prediction(x_0, (x_t.double() - at.signal * x_0) / at.sigma)

        return predict

    def say(name: str) -> tuple[Diagnosis, Levels]:
        sides = []
        for images in (train[:150], test[:150]):
            asked = LikelihoodJob(images, 50, CPU, SEED)
            found = likelihood.bound(denoises(name), chain, chosen.variance, asked, 30)
            sides.append(Errors(found.mse, least_error.least_errors(chain, gallery, asked, 30)))
        levels = least_error.with_signal(chain, *likelihood.strata(200, 30), *sides)
        return least_error.diagnose(levels), levels

    return say


def excess(errors: Errors) -> tuple[Array, Array]:
    """Its mean over the images, and the standard error of that."""
    values = errors.model - errors.optimum
    return values.mean(0), values.std(0, ddof=1) / math.sqrt(len(values))


def test_the_truth_lies_between_the_two_optima_and_gets_no_blame(said):
    found, levels = said("perfect")
    (train, train_se), (test, test_se) = excess(levels.train), excess(levels.held_out)
    assert (train > -4 * train_se).all()
    assert (test < 4 * test_se).all()
    assert train.max() > 0.5  # so 0 on train images is no goal
    assert not found.limited.any()
    assert not found.memorising.any()
    assert found.within < 0.1


def test_a_denoiser_that_is_too_simple_is_limited_where_it_matters(said):
    found, levels = said("linear")
    assert not found.memorising.any()
    assert found.above > 0.3
    low, high = found.spans[found.limited].min(), found.spans[found.limited].max()
    inside = levels.log_snr[(levels.first >= low) & (levels.first <= high)]
    assert inside.min() < 5  # where the components part
    assert inside.max() > 0
    assert "limited" in found.sentences()[1]
    assert not found.converged


@pytest.mark.parametrize(("name", "least"), [("memory", 0.999), ("overfitted", 0.2)])
def test_one_that_knows_train_images_memorises_at_low_noise(name, least, said):
    found, _ = said(name)
    assert not found.limited.any()
    assert found.lower > least
    assert found.memorising[0]
    assert not found.memorising[-1]
    assert "memorising at t = 1 to" in found.sentences()[-1]


def levels(train: Errors, held_out: Errors) -> Levels:
    """Levels of one step each."""
    count = train.model.shape[1]
    return Levels(np.arange(1, count + 1), np.ones(count, int), np.linspace(8, -4, count), train, held_out)


@pytest.mark.parametrize(
    ("train", "test", "converged", "limited", "start"),
    [
        (0.001, 0.001, True, False, "converged within"),
        (0.3, 0.3, False, True, "within"),
        (80.0, 80.0, False, True, "up to 81 times"),
        (0.3, 0.0, False, False, "within"),  # above it on train images alone: the images are too few to say more
    ],
)
def test_only_a_model_that_is_at_the_optimum_is_called_converged(train, test, converged, limited, start):
    random = np.random.default_rng(0)
    best = 0.5 + 0.1 * random.standard_normal((100, 9))
    best -= best.mean(0) - 0.5
    own = 0.1 * random.standard_normal((100, 9))
    own -= own.mean(0)
    found = least_error.diagnose(levels(*(Errors(best + own + 0.5 * above, best) for above in (train, test))))
    assert (found.converged, bool(found.limited.any())) == (converged, limited)
    assert found.sentences()[0].startswith(start)


def test_the_script_prints_a_diagnosis_and_draws_a_picture(digits, tmp_path, capsys):
    given = ["--model", str(DIGITS), "--processed", str(digits), "--images", "8", "--timesteps", "6"]
    least_error.main([*given, "--out", str(tmp_path / "x.png")])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "smallest possible error" in first
    assert last.startswith(str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("option", "value"), [("--images", "1"), ("--timesteps", "0"), ("--processed", "nowhere"), ("--model", "nowhere")]
)
def test_what_cannot_be_measured_is_refused(option, value, digits, tmp_path):
    """In one line, and nothing is written."""
    given = {"--model": DIGITS, "--processed": digits, "--out": tmp_path / "x.png", option: value}
    with pytest.raises(UserError, match=value):
        least_error.main([str(word) for pair in given.items() for word in pair])
    assert not list(tmp_path.iterdir())


def test_images_of_another_shape_are_refused(digits, model_file):
    with pytest.raises(UserError, match="--processed: "):
        least_error.main(["--model", str(model_file), "--processed", str(digits)])
