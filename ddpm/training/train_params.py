"""The ``train`` section of params.yaml, and everything that shapes a trained model."""

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, InstanceOf, NonNegativeInt, PositiveFloat

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.sections import Affects, Positive, Precision, Section, Share, Switch
from ddpm.base.variant import Family
from ddpm.model.model_params import ModelConfig
from ddpm.model.posthoc import Posthoc
from ddpm.training.augmentation import Augmentation
from ddpm.training.ema import EMAProfile
from ddpm.training.optimizer import Optimizer
from ddpm.training.timesteps import TimestepSampler


def _require_digest(value: str) -> str:
    if not re.fullmatch(".+@[0-9a-f]{64}", value):
        raise ValueError("allowed: a model file and its digest as `sha256sum FILE` prints it: FILE@SHA256")
    return value


COOLDOWN = 0.2  # of the steps after the warm-up, as Hägele et al. advise
# What is left of the learning rate after a share of the steps. wsd: constant, then linear (warmup-stable-decay, Hu et
# al. 2024, arXiv:2404.06395; Hägele et al. 2024, arXiv:2405.18392).
DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda share: 1.0,
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share: 1 - share,
    "wsd": lambda share: min(1.0, (1 - share) / COOLDOWN),
}


class Train(Section):
    """Algorithm 1 and its optimizer. Exactly one of ``steps`` and ``epochs`` is set.

    label_dropout: the share of images shown without their class, if the model has classes. snapshots: the numbers of
    images seen, rising, after which the averaged weights are kept; they are scored like the model at the end.
    input_perturbation: gamma of Ning et al. 2023 (arXiv:2301.11706): noise in x_t that the target does not include, as
    a share of epsilon. noise_draws: of so many draws of its noise, an image gets the nearest. start_from: FILE@SHA256,
    a model file with whose weights the network and its averages begin; DVC sees the digest. start_may_differ: keys in
    which that model may be another (ddpm/training/teacher.py). channels_last: auto is true on a GPU. compile: auto is
    true on a GPU that Triton supports, unless activations are recomputed.
    """

    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Positive
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    lr_decay: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    warmup_steps: NonNegativeInt = 0
    optimizer: Annotated[InstanceOf[Optimizer], Family("optimizers")] = Field(
        default_factory=partial(variant.choose, "optimizers", {"name": "adamw"})
    )
    gradient_clip: PositiveFloat | None = None
    horizontal_flip: bool = False
    augmentation: Annotated[InstanceOf[Augmentation], Family("augmentations")] = Field(
        default_factory=partial(variant.choose, "augmentations", {"name": "none"})
    )
    input_perturbation: Share = 0.0
    noise_draws: Positive = 1
    label_dropout: Share = 0.1
    precision: Precision = "auto"
    timestep_sampler: Annotated[InstanceOf[TimestepSampler], Family("timestep_samplers")]
    ema: Annotated[InstanceOf[EMAProfile], Family("emas")]
    posthoc: Posthoc | None = None
    start_from: Annotated[str, AfterValidator(_require_digest)] | None = None
    start_may_differ: tuple[str, ...] = ()
    channels_last: Annotated[Switch, Affects.ROUNDING] = False
    compile: Annotated[Switch, Affects.ROUNDING] = False
    checkpoint_activations: Annotated[bool, Affects.ROUNDING] = False
    deterministic: bool = True
    checkpoint_every: Annotated[Positive, Affects.NOTHING] = 1000
    grid_every: Annotated[NonNegativeInt, Affects.NOTHING] = 0
    grid_unit: Annotated[Literal["steps", "epochs"], Affects.NOTHING] = "steps"
    # they say what is scored besides the end
    snapshots: Annotated[tuple[Positive, ...], Affects.NOTHING] = ()

    def refusals(self) -> Iterator[str]:
        if (self.steps is None) == (self.epochs is None):
            yield "set exactly one of steps and epochs, and the other to null"
        if self.batch_size % self.accumulate:
            yield f"accumulate: {self.accumulate} must divide batch_size: {self.batch_size}"
        if self.compile is True and self.checkpoint_activations:
            yield "compile: true and checkpoint_activations do not go together: set compile to auto or false"
        if self.optimizer.averages:
            alone = {"ema": (self.ema.name, "off"), "posthoc": (self.posthoc and "set", None),
                     "lr_decay": (self.lr_decay, "constant")}  # fmt: skip
            for key, (value, allowed) in alone.items():
                if value != allowed:
                    why = f"is not needed next to what optimizer: {self.optimizer.name} averages already"
                    yield f"{key}: {value} {why}; allowed: {allowed or 'null'}"
        if self.start_may_differ and not self.start_from:
            yield f"start_may_differ: {list(self.start_may_differ)} is about the model in start_from, which is null"
        if self.snapshots:
            yield from self._unfair_snapshots()

    def _unfair_snapshots(self) -> Iterator[str]:
        if list(self.snapshots) != sorted(set(self.snapshots)):
            yield f"snapshots: {list(self.snapshots)} must rise"
        if odd := [images for images in self.snapshots if images % self.batch_size]:
            yield f"snapshots: {odd[0]} images are not whole batches; allowed: multiples of {self.batch_size}"
        if self.steps and (reason := self._beyond_the_end(self.steps)):
            yield reason
        if self.lr_decay != "constant":
            yield (
                f"snapshots need lr_decay: constant, not {self.lr_decay}: in the middle of a decay a model is worse "
                "than one trained to that point; a constant rate with an average (ema) makes every point a fair end"
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` (1, 2, ...) of ``steps``: linear warm-up, then ``lr_decay``, which would
        reach 0 one step after the last: all steps learn.

        As PyTorch's CosineAnnealingLR counts: the first step after the warm-up has the whole rate.
        """
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        return self.learning_rate * DECAYS[self.lr_decay]((step - 1 - self.warmup_steps) / (steps - self.warmup_steps))

    def earlier(self, steps: int) -> dict[int, int]:
        """step -> images, of each snapshot before the end of a training of ``steps``."""
        points = {images // self.batch_size: images for images in self.snapshots}
        return {step: images for step, images in points.items() if step < steps}

    def total(self, count: int) -> int:
        """The number of steps of a training on ``count`` images. Raises UserError if a snapshot comes after its end."""
        steps = self.steps or math.ceil((self.epochs or 0) * count / self.batch_size)
        if reason := self._beyond_the_end(steps):
            raise UserError(f"train.{reason}")
        return steps

    def _beyond_the_end(self, steps: int) -> str:
        """Why a training of ``steps`` is too short for its snapshots; empty if it is not."""
        last, end = max(self.snapshots, default=0), steps * self.batch_size
        return f"snapshots: {last} is beyond the end at {end} images" if last > end else ""

    def check_ranks(self, ranks: int) -> None:
        """Raises UserError if some ranks would have nothing of a batch."""
        if self.batch_size // self.accumulate < ranks:
            raise UserError(
                f"train.batch_size: {self.batch_size} in {self.accumulate} parts leaves nothing to some of {ranks} "
                f"ranks; use at least {self.accumulate * ranks}, or a smaller launch.processes"
            )


class TrainingConfig(ModelConfig):
    """Everything that shapes a trained model; a model file's metadata holds it."""

    train: Annotated[Train, Affects.LEARNED]

    def refusals(self) -> Iterator[str]:
        yield from super().refusals()
        loss, sampler = self.diffusion.loss, self.train.timestep_sampler
        if sampler.by_loss and loss.signed:
            yield (
                f"train.timestep_sampler: {sampler.name} draws t by the size of the losses, and losses of {loss.name} "
                f"may be negative; allowed: {variant.having('timestep_samplers', 'by_loss', False)}"
            )
