"""Given images changed by a model: against closed forms for Gaussian data, and the script's commands."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ddpm.base.sections import Shape
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.parameterization import Prediction
from ddpm.sampling.generator import Generator
from examples import edit_images as edits
from tests.peers import exact
from tests.small import build

SCHEDULE = exact.even_in_log_snr(200)
VARIANCE = build("variances", "fixed_small")


class Perfect:
    """The perfect denoiser of two correlated pixels, as a ``Denoiser``."""

    def __init__(self) -> None:
        self.chain = Chain(SCHEDULE)
        self.device = torch.device("cpu")
        self.data, self.diffusion = exact.gaussian(SCHEDULE), SimpleNamespace(variance=VARIANCE)

    def __call__(self, x_t: Tensor, t: int) -> Prediction:
        found = self.data(x_t.double(), t)
        return Prediction(found.x_0.float(), found.epsilon.float())


def generator(sampler: str, steps: int = 40) -> Generator:
    return Generator(Perfect(), build("samplers", sampler), steps, "karras", Shape(2, 1, 1))


def images(count: int) -> Tensor:
    """Draws of the data, (count, 2, 1, 1): the pixels are channels, so a mask of pixels has to be of that shape."""
    drawn = np.random.default_rng(0).multivariate_normal(exact.MEAN.numpy(), exact.COVARIANCE.numpy(), count)
    return torch.from_numpy(drawn).float().view(count, 2, 1, 1)


@pytest.mark.slow
def test_inpainting_keeps_what_is_known_and_draws_the_rest_given_it():
    unknown = torch.tensor([False, True]).view(2, 1, 1)
    known = images(4000)
    drawn = edits.inpaint(generator("ancestral", 150), known, unknown, seed=0)
    assert torch.equal(drawn[:, 0], known[:, 0])
    slope = exact.COVARIANCE[0, 1] / exact.COVARIANCE[0, 0]
    left = exact.COVARIANCE[1, 1] - slope * exact.COVARIANCE[0, 1]
    rest = drawn[:, 1, 0, 0] - (exact.MEAN[1] + slope * (known[:, 0, 0, 0] - exact.MEAN[0]))
    assert float(rest.mean()) == pytest.approx(0, abs=0.03)
    assert float(rest.var()) == pytest.approx(float(left), rel=0.1)
    assert abs(float(torch.corrcoef(torch.stack([rest, known[:, 0, 0, 0]]))[0, 1])) < 0.1


def test_variations_are_of_the_datas_distribution_and_less_alike_the_stronger_they_are():
    given = images(4000)
    alike = []
    for strength in (0.2, 0.5, 1.0):
        varied = edits.vary(generator("ancestral", 200), given, strength, seed=0).flatten(1)
        torch.testing.assert_close(varied.mean(0).double(), exact.MEAN, rtol=0, atol=0.03)
        torch.testing.assert_close(varied.T.cov().double(), exact.COVARIANCE, rtol=0, atol=0.02)
        alike.append(float(torch.corrcoef(torch.stack([varied[:, 0], given[:, 0, 0, 0]]))[0, 1]))
    assert alike[0] > 0.9
    assert alike[0] > alike[1] > alike[2]
    assert abs(alike[2]) < 0.1


@pytest.mark.parametrize("steps", [5, 20])
def test_inversion_and_back_returns_the_images(steps):
    """However coarse the steps are; one iteration, which is plain DDIM inversion, is far worse at few."""
    given, ddim = images(50), generator("ddim", steps)
    back = edits.decode(ddim, edits.invert(ddim, given, iterations=50))
    torch.testing.assert_close(back, given, rtol=0, atol=2e-4)
    plain = edits.decode(ddim, edits.invert(ddim, given, iterations=1))
    assert float((plain - given).abs().max()) > 10 * float((back - given).abs().max())


def test_interpolation_starts_and_ends_at_the_images():
    given = images(4)
    between = edits.interpolate(generator("ddim"), given, count=5)
    assert between.shape == (3, 5, 2, 1, 1)
    torch.testing.assert_close(between[:, 0], given[:-1], rtol=0, atol=0.02)
    torch.testing.assert_close(between[:, -1], given[1:], rtol=0, atol=0.02)
    torch.testing.assert_close(edits.slerp(given, given, 0.3), given)  # parallel


def test_what_is_between_has_the_class_of_the_nearer_image(monkeypatch):
    classes: list[int] = []
    monkeypatch.setattr(edits, "decode", lambda _, x_T, classes_of: classes.extend(classes_of) or x_T)
    edits.interpolate(generator("ddim", 2), images(3), count=4)
    assert classes == [0, 1, 0, 1, 1, 2, 1, 2]


COMMANDS = [
    ("inpaint", "--part", "left", "--rounds", "2"), ("vary", "--strengths", "0.3", "1"),
    ("interpolate", "--count", "3"), ("invert",),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.usefixtures("folder")
def test_each_command_writes_a_picture_of_given_images(command, model_file):
    for name in ("a", "b"):
        Image.linear_gradient("L").rotate(90 * (name == "b")).save(f"{name}.png")
    shutil.copy(model_file, "model.safetensors")
    model = "." if command == ("invert",) else "model.safetensors"  # a model may be named by its folder
    edits.main([*command, "--model", model, "--images", "a.png", "b.png", "--steps", "3", "--out", "x.png"])
    assert min(Image.open("x.png").size) > 100
