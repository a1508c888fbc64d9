"""A training run small enough for a test: 8x8 images, 50 steps of noise, a few thousand weights."""

import signal
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.compute import noise
from ddpm.diffusion.batch import Batch, Draws
from ddpm.diffusion.loss import Estimate
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.training.history import LossRow
from ddpm.training.trainer import Trainer

CPU = torch.device("cpu")
PARAMS = {
    "seed": 0,
    "device": "cpu",
    "data": {"dataset": {"name": "digits"}, "image_size": 8, "channels": 1},
    "diffusion": {
        "T": 50, "schedule": {"name": "cosine"}, "parameterization": {"name": "v"},
        "variance": {"name": "fixed_small"}, "loss": {"name": "simple"},
    },
    "model": {
        "name": "unet",
        "unet": {
            "base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [4], "attention_heads": 2,
            "groups": 4, "dropout": 0.1,
        },
    },
    "train": {
        "steps": 12, "batch_size": 8, "learning_rate": 1e-3, "precision": "float32",
        "timestep_sampler": {"name": "uniform"}, "ema": {"name": "constant"}, "checkpoint_every": 5,
    },
    "sample": {"count": 12, "batch_size": 5, "sampler": {"name": "ddim"}, "steps": 5, "precision": "float32"},
    "evaluate": {"extractors": ["classifier"]},
}  # fmt: skip

# those that draw from a denoiser; tests/variants/losses/test_flow_maps.py has the others
DENOISING = [name for name in variant.names("samplers") if variant.variant_class("samplers", name).needs == "denoiser"]
# for the model section: where any network will do, in half the time
TINY = {"unet": {**PARAMS["model"]["unet"], "multipliers": [1], "attention_sizes": [], "middle_attention": False}}
# the same without any attention or dropout
PLAIN = {"base_channels": 16, "multipliers": [1], "blocks": 1, "attention_sizes": [], "groups": 4, "patch_size": 2,
        "middle_attention": False, "dropout": 0.0}  # fmt: skip


def small(**sections: dict) -> Config:
    """The small config with some keys of its sections changed."""
    return config.parse({key: {**value, **sections.get(key, {})} if isinstance(value, dict) else value
                         for key, value in PARAMS.items()}, "small")  # fmt: skip


def build(family: str, name: str, **fields):
    """A variant with these hyperparameters."""
    return variant.build(family, {"name": name, name: fields}, family)


def pictures(count: int = 30, size: int = 8, channels: int = 1) -> np.ndarray:
    """Random blocks: something with structure that a network can learn."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 2, (count, channels, 2, 2)) * 255
    return coarse.repeat(size // 2, 2).repeat(size // 2, 3).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Given(Draws):
    """Draws with a given epsilon."""

    epsilon: Tensor

    def __getitem__(self, rows: slice) -> Draws:
        return replace(super().__getitem__(rows), epsilon=self.epsilon[rows])

    def gaussian(self, purpose: str) -> Tensor:
        return self.epsilon


def given(
    x_0: Tensor, epsilon: Tensor, t: Tensor, labels: Tensor | None = None, layers: int = 0, step: int = 0
) -> Batch:
    """A batch of those images and noise at t. layers: of the network, that drop anything."""
    dropout, tensors = torch.zeros(len(t), layers, 2, dtype=torch.int32), {"x_0": x_0, "others": x_0[:0], "t": t}
    ahead, rows = noise.Ahead(x_0[0].numel(), CPU), range(len(t))
    draws = Given(0, step, torch.arange(len(t)), rows, x_0.shape[1:], ahead, epsilon=epsilon)
    return Batch(**tensors, weight=torch.ones(len(t)), labels=labels, condition=None, dropout=dropout, draws=draws)


def mean_loss(trainer: Trainer) -> float:
    """The mean loss of the same images and noise at each t of the chain, as a denoiser's without dropout."""
    student, t, place = trainer.student, torch.arange(1, 51), torch.arange(50)
    x_0, labels = trainer.batches(1)[place % 8], trainer.batches.labels(1)
    epsilon = noise.gaussian(0, "test", place, 0, trainer.shape)
    batch = given(x_0, epsilon, t, None if labels is None else labels[place % 8], len(student.dropout))
    noisy = student.diffuse(batch, t)
    student.network.eval()
    with torch.no_grad():
        output = student(batch, noisy.x_t, t, noisy.at)
    student.network.train()
    halves = student.variance.split(output)
    return float(trainer.config.diffusion.loss.measure(Estimate(student, noisy, *halves)).mean())


class Memory:
    """A log that keeps what it gets. stop: the step whose row ends the training without warning, as a kill does, or
    with a signal of that ``number``."""

    def __init__(self, stop: int | None = None, number: int | None = None) -> None:
        self.rows: list[LossRow] = []
        self.sent, self.stop, self.number = 0, stop, number

    def log(self, row: LossRow) -> None:
        self.rows.append(row)
        if row.step == self.stop and self.number is None:
            raise KeyboardInterrupt
        if row.step == self.stop:
            signal.raise_signal(self.number)

    def flush(self) -> None:
        self.sent = len(self.rows)
