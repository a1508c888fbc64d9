"""Numbers that break a training, a sampling or a score: each gives the right result, or one line."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED
from ddpm.base.sections import Shape
from ddpm.data.preprocessing import preprocess
from ddpm.model import build
from ddpm.params import config
from ddpm.report.previews import Previews
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.scoring import distances, memorisation
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, RealFeatures
from ddpm.scoring.scores import score
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.history import STORM, History
from ddpm.training.trainer import Trainer, train
from ddpm.variants.extractors.classifier import Classifier
from stages import reference
from tests.hostile.files import DATA, fetch
from tests.small import CPU, DENOISING, TINY, Memory, pictures, small

pytestmark = pytest.mark.usefixtures("folder")
LEFT = (".ddpm", "data")  # may stay behind


def learn(config) -> None:
    train(config.training(), pictures(), CPU, Path("out"), Checkpoints("run"), Memory(), [Previews])


def poisoned(part: str, value: float) -> None:
    """Continue training from a checkpoint with a tensor of that value."""
    config = small(train={"steps": 3})
    trainer = Trainer(config.training(), pictures(), CPU)
    trainer.step(1)
    state = trainer.state()
    name, tensor = next(iter(state[part].items()))
    state[part] = {**state[part], name: torch.full_like(tensor, value)}
    history = History(trainer.total, trainer.batch_size, gradients_may_overflow=False)
    Checkpoints("run").save(1, state | {"history": history.state(1)})
    learn(config)


def draw() -> None:
    """Draw from a network that outputs NaN everywhere, without clipping."""

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            return torch.full_like(x, torch.nan)

    denoiser = Denoiser(Broken(), small().diffusion, CPU, torch.float32, clip=False)
    generator = Generator(denoiser, small().sample.sampler, 5, "uniform", Shape(1, 8, 8))
    generator.images(range(3), 0)


def put_one_class() -> None:
    Path("photos/a").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (9, 9), "white").save(f"photos/a/{number}.png")
    fetch("photos")


def fit() -> None:
    preprocess(DATA, Path("raw"), PROCESSED)
    reference.main(Evaluate(extractors=("classifier",)), CPU)


def judge() -> None:
    """Score features that are NaN."""
    features = Features(torch.full((2000, 4), torch.nan), torch.zeros(2000, 2))
    real = SimpleNamespace(extractor=Classifier())
    score(features, real, Evaluate(extractors=("classifier",), metrics=("fid",)))


DECAYED = small(train={"optimizer": {"name": "adamw", "adamw": {"weight_decay": 1e30}}})
CASES = {
    "weights that decay beyond all bounds": (lambda: None, partial(learn, DECAYED), "not finite at step"),
    "a NaN in a checkpoint's weights": (lambda: None, partial(poisoned, "network", math.nan), "not finite at step 2"),
    "an infinity in a checkpoint's average": (lambda: None, partial(poisoned, "ema", math.inf), "are not finite"),
    "a network that answers NaN": (lambda: None, draw, "are not finite"),
    "features that are NaN": (lambda: None, judge, "infinite features"),
    "a single class for the classifier": (put_one_class, fit, "needs at least 2 classes"),
}


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
