"""From the values of params.yaml to one frozen, validated Config."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from ddpm.base import files, settings
from ddpm.base.settings import Count, ImageShape, Section
from ddpm.compute.devices import DEVICE
from ddpm.data.settings import Data
from ddpm.params import file
from ddpm.sampling.settings import Sample
from ddpm.scoring.settings import Evaluate
from ddpm.training.settings import TrainingConfig


class Launch(Section):
    """How many processes a stage runs on: not part of the experiment, because results agree to rounding on any number.

    ``auto`` is one process a GPU, or one on a CPU.
    """

    processes: Count = "auto"


class Compare(Section):
    """When ``ddpm compare`` calls a difference real. No stage reads it.

    threshold: the smallest gap that matters, as a share of the baseline's mean. confidence: of the intervals; one
    minus it is the false-positive rate of a verdict. power: the chance of a verdict that "seeds needed" aims at.
    """

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.013
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    power: Annotated[float, Field(ge=0.5, le=0.99)] = 0.8


class Gate(Section):
    """When ``ddpm gate`` calls a run worse than its baseline. No stage reads it.

    k: standard deviations between training seeds. metrics: those that decide, without the extractor's name.
    floors: changes that never count, in the metric's own unit.
    """

    k: Annotated[float, Field(gt=0)] = 3.0
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("fid", "fd", "bits_per_dim")
    floors: dict[str, Annotated[float, Field(ge=0)]] = Field(default={"fid": 0.05, "fd": 0.02, "bits_per_dim": 0.01})


class Config(TrainingConfig):
    """Everything an experiment chooses."""

    data: Data
    device: Annotated[str, Field(pattern=f"^{DEVICE}$")] = "auto"
    launch: Launch = Launch()
    sample: Sample
    evaluate: Evaluate
    compare: Compare = Compare()
    gate: Gate = Gate()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sample.steps > self.diffusion.T:
            raise ValueError(f"sample.steps: {self.sample.steps} must be at most diffusion.T = {self.diffusion.T}")
        return self

    def flat(self) -> dict[str, Any]:
        """Key (``diffusion.schedule.name``) -> plain value, with defaults, less the blocks of networks that are not
        chosen."""
        sections = self.to_dict()
        model = sections["model"]
        sections["model"] = {key: model[key] for key in ("name", model["name"]) if key in model}
        return files.flatten(sections)

    def training(self) -> TrainingConfig:
        """The part that shapes a trained model."""
        shape = ImageShape(image_size=self.data.image_size, channels=self.data.channels)
        return TrainingConfig(seed=self.seed, data=shape, diffusion=self.diffusion, model=self.model, train=self.train)

    def only(self, keys: Iterable[str]) -> Self:
        """A copy with nothing but ``keys`` (``section`` or ``section.field``): reading another raises AttributeError.

        Stages get the keys that dvc.yaml lists for them, so that no stage can read what DVC does not watch.
        """
        fields: dict[str, set[str]] = {}
        for key in keys:
            section, _, field = key.partition(".")
            fields.setdefault(section, set()).add(field)
        copy = self.model_copy()
        for section in type(self).model_fields:
            if section not in fields:
                del copy.__dict__[section]
            elif "" not in fields[section]:
                part = getattr(self, section).model_copy()
                for field in type(part).model_fields.keys() - fields[section]:
                    del part.__dict__[field]
                copy.__dict__[section] = part
        return copy


def load(path: Path = file.PATH) -> Config:
    """Read and check a params file. Raises UserError that names the key, the value and what is allowed."""
    return check(file.read(path), str(path))


def check(values: dict[str, Any], source: str = str(file.PATH)) -> Config:
    """The config of plain ``values``; ``source`` begins every message. Raises UserError as ``load`` does."""
    return settings.parse(values, source, Config)
