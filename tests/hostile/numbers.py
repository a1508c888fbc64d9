"""Numbers that break a training, a sampling or a score."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from PIL import Image
from torch import nn

from ddpm.base.paths import PROCESSED
from ddpm.base.sections import Shape
from ddpm.data.preprocessing import preprocess
from ddpm.model.model_file import save_model
from ddpm.report.previews import Previews
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features
from ddpm.scoring.scores import score
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.history import History
from ddpm.training.trainer import Trainer, train
from ddpm.variants.datasets.image_folder import ImageFolder
from ddpm.variants.extractors.classifier import Classifier
from stages import reference
from tests.hostile.case import Case
from tests.hostile.pictures import data
from tests.small import CPU, Memory, pictures, small

LEFT = frozenset({".ddpm"})


def decayed(weight_decay: float) -> dict:
    return {"name": "adamw", "adamw": {"weight_decay": weight_decay}}


def learn(config, images=None) -> None:
    images = pictures() if images is None else images
    train(config.training(), images, CPU, Path("out"), Checkpoints("run"), Memory(), [Previews])


def poisoned(part: str, of: str = "") -> None:
    """Continue training from a checkpoint with a tensor that is NaN."""
    config = small(train={"steps": 3}).training()
    trainer = Trainer(config, pictures(), CPU)
    trainer.step(1)
    state = trainer.state()
    name, value = next((name, value) for name, value in state[part].items() if name.endswith(of))
    state[part] = {**state[part], name: value * torch.nan}
    history = History(trainer.total, trainer.batch_size, gradients_may_overflow=False)
    Checkpoints("run").save(1, state | {"history": history.state(1)})
    train(config, pictures(), CPU, Path("out"), Checkpoints("run"), Memory(), [Previews])


def draw_from(value: float) -> None:
    """Draw from a network that outputs ``value`` everywhere, without clipping."""

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            return torch.full_like(x, value)

    diffusion = small().diffusion
    denoiser = Denoiser(Constant(), diffusion, CPU, torch.float32, clip=False)
    generator = Generator(denoiser, small().sample.sampler, 5, "uniform", Shape(1, 8, 8))
    generator.images(range(3), 0)


def photos(*names: str) -> None:
    for name in names:
        path = Path("photos") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9), "white").save(path)
    if names:
        ImageFolder().download("photos", Path("raw"))


def fit() -> None:
    preprocess(data(), Path("raw"), PROCESSED, workers=1)
    reference.main(Evaluate(extractors=("classifier",)), CPU)


def save_infinity() -> None:
    """As after the last good step of a training whose weights then diverge."""
    weights = {"a": torch.ones(2), "b": torch.tensor([1.0, torch.inf])}
    save_model(Path("out/model.safetensors"), weights, small().training(), {})


def judge(value: float) -> None:
    """Score features of ``value`` alone."""
    features = Features(torch.full((2000, 4), value), torch.zeros(2000, 2))
    real = SimpleNamespace(extractor=Classifier())
    score(features, real, Evaluate(extractors=("classifier",), metrics=("fid",)))


CASES = [
    Case("numbers", "weights that decay beyond all bounds", lambda: None,
         partial(learn, small(train={"optimizer": decayed(1e30)})), "not finite at step", LEFT),
    Case("numbers", "a rate of 1 without a clip, on a network of 16 bits", lambda: None,
         partial(learn, small(train={"optimizer": decayed(1e6), "learning_rate": 1.0, "precision": "bfloat16",
                                     "steps": 60})), "not finite", LEFT),
    Case("numbers", "a NaN in a checkpoint's weights", lambda: None, partial(poisoned, "network"),
         "not finite at step 2", LEFT),
    Case("numbers", "a NaN in a checkpoint's average", lambda: None, partial(poisoned, "ema"), "are not finite", LEFT),
    Case("numbers", "an infinite weight after the last step", lambda: None, save_infinity, "are not finite"),
    Case("numbers", "a network that answers NaN", lambda: None, partial(draw_from, torch.nan), "are not finite"),
    Case("numbers", "features that are NaN", lambda: None, partial(judge, torch.nan), "infinite features"),
    Case("numbers", "a single class for the classifier", partial(photos, "a/1.png", "a/2.png", "a/3.png"), fit,
         "needs at least 2 classes", frozenset({"data"})),
]  # fmt: skip
