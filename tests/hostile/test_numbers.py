"""Edge-case numbers that give the right result; those that end in an error line are in numbers.py."""

import math

import numpy as np
import pytest
import torch

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.model import build
from ddpm.params import config
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.scoring import distances, memorisation
from ddpm.scoring.features import Features
from ddpm.scoring.reference import RealFeatures
from ddpm.scoring.scores import score
from ddpm.training.history import STORM, History
from ddpm.variants.extractors.classifier import Classifier
from tests.hostile.numbers import CPU, learn
from tests.small import DENOISING, TINY, small

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("T", [1, 4000])
@pytest.mark.parametrize("name", variant.names("schedules"))
def test_chains_of_any_length_train_and_sample(name, T):
    steps = min(T, 3)
    diffusion = {"T": T, "schedule": {"name": name}}
    try:
        chosen = small(diffusion=diffusion, sample={"steps": steps}, model=TINY)
    except UserError as error:
        if f"T: {T}" not in str(error):
            raise
        return  # a schedule made for many steps
    learn(config.parse({**chosen.to_dict(), "train": {**chosen.to_dict()["train"], "steps": 1}}, "T"))
    denoiser = Denoiser(build.network(chosen.training()), chosen.diffusion, CPU, torch.float32, clip=True)
    for sampler in DENOISING:
        built = variant.build("samplers", {"name": sampler}, "sampler")
        generator = Generator(denoiser, built, steps, "uniform", chosen.data.shape)
        assert generator.images(range(2), 0).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("what", ["fake", "real", "both"])
def test_scores_of_images_that_are_all_the_same_are_numbers_or_refused(what):
    """A covariance of 0, distances of 0, and one class."""
    varied = torch.randn(200, 64, generator=torch.Generator().manual_seed(0))
    same = torch.zeros(200, 64)
    fake = same if what in {"fake", "both"} else varied
    held = same if what in {"real", "both"} else varied
    real = RealFeatures(
        Classifier(), CPU, torch.nn.Identity(), held, held.mean(0).numpy(), np.cov(held.double().numpy().T),
        Features(held, held[:, :10]), memorisation.nearest(held, held, CPU),
        distances.neighbours(held, 3), {},
    )  # fmt: skip
    settings = small(evaluate={"kid_subset_size": 50, "kid_subsets": 3}).evaluate
    try:
        found = score(Features(fake, fake[:, :10]), real, settings)
    except UserError as error:
        if "is not a finite number" not in str(error):
            raise
    else:
        assert all(map(math.isfinite, found.values()))
        assert what != "both" or found["fd"] == pytest.approx(0, abs=1e-6)


def told(steps: int, norms: list[float]) -> None:
    """A history of these gradients' norms."""
    history = History(steps, 8, True)
    for step, norm in enumerate(norms, 1):
        history.add(step, torch.tensor(1.0), torch.tensor(norm), 1e-3)


@pytest.mark.parametrize(("steps", "fine"), [(400, 1), (4000, 0)])  # the longer one has a row in ten steps
def test_overflows_on_end_are_not_the_scalers_business(steps, fine):
    told(400, ([math.inf] * (STORM - 1) + [1.0]) * 3)  # now and then they are
    with pytest.raises(UserError, match=f"at each of the {STORM} steps up to {STORM + fine}"):
        told(steps, [1.0] * fine + [math.inf] * STORM)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_gradient_that_is_none_ends_training_at_once(value):
    with pytest.raises(UserError, match="not finite at step 1 "):
        History(400, 8, False).add(1, torch.tensor(1.0), torch.tensor(value), 1e-3)
    with pytest.raises(UserError, match="not finite at step 1 "):
        History(400, 8, True).add(1, torch.tensor(value), torch.tensor(1.0), 1e-3)
