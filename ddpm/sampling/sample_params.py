"""The ``sample`` section of params.yaml."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field, InstanceOf

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.sections import Affects, BelowOne, Positive, Precision, Section, Seed, Share, Switch
from ddpm.base.tensor import Tensor
from ddpm.base.variant import Family
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.model.posthoc import Length
from ddpm.sampling.sampler import Sampler

Spacing = Literal["uniform", "trailing", "karras"]


class Guidance(Section):
    """How far each estimate goes beyond that without the class: without + weight (with - without), in x_0 and epsilon
    (Ho & Salimans 2022, arXiv:2207.12598, where w is one less).

    A weight of 1 is the model with the class alone, 0 without it. interval: the sigma = sqrt(1 - alpha_bar) at which
    there is guidance, from and to; outside it the weight is 1.
    """

    weight: Annotated[float, Field(ge=0, le=1000)] = 1.0
    interval: tuple[Share, Share] = (0.0, 1.0)

    def refusals(self) -> Iterator[str]:
        low, high = self.interval
        if low > high:
            yield f"interval: [{low}, {high}] ends before it begins; allowed: [{high}, {low}]"

    def impossible(self, classes: int, label_dropout: float | None) -> str:
        """Why it cannot guide a model with ``classes``, trained with ``label_dropout``; empty if it can."""
        if self.weight == 1 or (classes and label_dropout != 0):
            return ""
        why = (
            "leads away from the model without a class, which train.label_dropout: 0 does not train"
            if classes
            else "needs a model with classes (model.classes)"
        )
        return f"sample.guidance.weight: {self.weight:g} {why}; allowed: 1"

    def acts(self, schedule: NoiseSchedule, t: int | Tensor) -> bool:
        """Whether it changes the estimate at step t of the training chain; if it can, that is one number."""
        low, high = self.interval
        return self.weight != 1 and low <= float(schedule.one_minus_alpha_bar[int(t) - 1]) ** 0.5 <= high


class Sample(Section):
    """How images are drawn from the model.

    classes: numbers or names to draw in turn; null: all, in the shares of the train images. ema_length: of the average
    of the weights, made from the snapshots of ``train.posthoc``; null: the model file's own. compile: auto is true on
    a GPU that Triton supports. contrast: w of (output - w m) / (1 - w), away from m, the mean of what the network
    learned to predict: the optimum of contrastive flow matching (arXiv:2506.05350), without its training.
    """

    count: Annotated[Positive, Affects.SCORED]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), Affects.SCORED] = (0,)
    batch_size: Annotated[Positive, Affects.ROUNDING] = 256
    sampler: Annotated[InstanceOf[Sampler], Family("samplers")]
    steps: Positive
    spacing: Spacing = "uniform"
    clip_denoised: bool = True
    precision: Precision = "auto"
    classes: Annotated[tuple[int | str, ...], Field(min_length=1)] | None = None
    guidance: Guidance = Guidance()
    contrast: BelowOne = 0.0
    ema_length: Length | None = None
    compile: Annotated[Switch, Affects.ROUNDING] = False

    def refusals(self) -> Iterator[str]:
        if len(set(self.seeds)) < len(self.seeds):
            yield f"seeds: {list(self.seeds)} contains a duplicate; list each once"
        if self.contrast and self.sampler.needs != "denoiser":
            yield f"contrast: {self.contrast:g} is for denoisers, not sampler: {self.sampler.name}; allowed: 0"


def class_number(value: int | str, names: Sequence[str], count: int) -> int:
    """The number, 0..count - 1, of the class called ``value`` or of that number. Raises UserError if there is none."""
    if value in names:
        return names.index(str(value))
    whole = isinstance(value, int) or bool(re.fullmatch("[0-9]{1,9}", value))
    if whole and 0 <= int(value) < count:
        return int(value)
    hint = variant.closest(value, names) if isinstance(value, str) else ""
    named = f", or a name: {variant.shorten(', '.join(names))}" if names else ""
    raise UserError(f"sample.classes: no class {variant.quote(value)}{hint}; allowed: 0..{count - 1}{named}")
