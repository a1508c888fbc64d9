"""From the values of params.yaml to one frozen, validated Config."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from ddpm.base import files, sections, variant
from ddpm.base.errors import UserError
from ddpm.base.sections import Affects, Count, ImageShape, Section
from ddpm.base.variant import Family, Members
from ddpm.compute.devices import DEVICE
from ddpm.data.data_params import Data
from ddpm.params import file
from ddpm.sampling.sample_params import Sample, class_number
from ddpm.scoring import metric
from ddpm.scoring.evaluate_params import AUTO, Evaluate
from ddpm.training.train_params import TrainingConfig


class Launch(Section):
    """How many processes a stage runs on: not part of the experiment, because results agree to rounding on any number.

    ``auto`` is one process a GPU, or one on a CPU.
    """

    processes: Count = "auto"


DECLARED = (*metric.of_extractors(), *metric.LIKELIHOOD)
FLOORS = {score.name: score.floor for score in DECLARED if score.floor is not None}


def _has_floor(name: str) -> str:
    if name not in FLOORS:
        raise ValueError(f"unknown score{variant.closest(name, FLOORS)}; allowed: {', '.join(FLOORS)}")
    return name


Floored = Annotated[str, AfterValidator(_has_floor)]
MANY = 10**6  # steps


class Compare(Section):
    """When ``ddpm compare``, a study and ``ddpm gate`` call a difference real. No stage reads it.

    threshold: the smallest gap that matters, as a share of the baseline's mean. floors: the same in the metric's own
    unit, by the metric without its extractor; it alone counts for shares and bits (ddpm/referee/metrics.py), for
    others the larger of the two. confidence: one minus it is the chance that a table of verdicts
    holds any false one.
    """

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.013
    floors: dict[Floored, Annotated[float, Field(ge=0)]] = Field(default=FLOORS)
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95


class Gate(Section):
    """The metrics by which ``ddpm gate`` fails a run; ``compare`` says how much worse it has to be. No stage reads it.

    metrics: those that decide, without the extractor's name.
    """

    metrics: Annotated[tuple[Floored, ...], Field(min_length=1)] = ("fid", "fd", "bits_per_dim")


class Scoring(Section):
    """The sections that scoring reads, whatever drew the images."""

    data: Annotated[Data, Affects.LEARNED | Affects.SCORED]
    device: Annotated[str, Field(pattern=f"^{DEVICE}$"), Affects.ROUNDING] = "auto"
    evaluate: Annotated[Evaluate, Affects.SCORED]

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        if AUTO in self.evaluate.extractors and (self.data.source is None or self.data.dataset.verified):
            # every published dataset has classes: the same experiment, however it is spelled
            return self.model_copy(update={"evaluate": self.evaluate.resolve(2, self.data.channels)})
        return self


class Config(TrainingConfig, Scoring):
    """Everything an experiment chooses."""

    data: Annotated[Data, Affects.LEARNED | Affects.SCORED]
    launch: Annotated[Launch, Affects.ROUNDING] = Launch()
    sample: Annotated[Sample, Affects.DRAWN]
    compare: Annotated[Compare, Affects.NOTHING] = Compare()
    gate: Annotated[Gate, Affects.NOTHING] = Gate()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sample.steps > self.diffusion.T:
            raise ValueError(f"sample.steps: {self.sample.steps} must be at most diffusion.T = {self.diffusion.T}")
        classes, sample = self.model.classes, self.sample
        if sample.classes is not None and not classes:
            raise ValueError("sample.classes: the model has none with model.classes: 0; allowed: null")
        for number in (value for value in sample.classes or () if isinstance(value, int)):
            class_number(number, (), classes)
        if reason := sample.guidance.impossible(classes, self.train.label_dropout):
            raise ValueError(reason)
        if reason := sample.sampler.refusal(self.diffusion.loss, sample.guidance.weight):
            raise ValueError(reason)
        if sample.ema_length is not None:
            if self.train.posthoc is None:
                raise ValueError(
                    "sample.ema_length: needs the snapshots of train.posthoc, which is null; allowed: null"
                )
            if self.train.snapshots:
                raise ValueError(
                    "sample.ema_length: is of the end alone, not of train.snapshots: leave one of them out"
                )
            try:  # how many steps epochs are depends on the data, but only a few make a difference
                self.train.posthoc.weights(sample.ema_length, self.train.steps or MANY)
            except UserError as error:
                raise ValueError(f"sample.ema_length: {error}") from error
        return self

    def flat(self, defaults: bool = True) -> dict[str, Any]:
        """Key (``diffusion.schedule.name``) -> plain value, with ``defaults`` or only what differs from them."""
        return files.flatten(self.to_dict(defaults))

    def training(self) -> TrainingConfig:
        """The part that shapes a trained model."""
        shape = ImageShape(image_size=self.data.image_size, channels=self.data.channels)
        return TrainingConfig(seed=self.seed, data=shape, diffusion=self.diffusion, model=self.model, train=self.train)


AFFECTS = {key: mark for key, _, mark in sections.fields(Config)}
FIELDS = {key: field for key, field, _ in sections.fields(Config)}
MARKS = ((key, mark) for key, field in FIELDS.items() for mark in field.metadata)
# params key -> the folder of ddpm/variants/ that holds what can be chosen there
FAMILIES = {key: mark.folder for key, mark in MARKS if isinstance(mark, Family | Members)}


@cache  # a thousand runs have the same keys
def affects(key: str) -> Affects:
    """What a params key changes: it has the mark of its field, or of the family or section that it belongs to. An
    unknown section may change anything."""
    while key and key not in AFFECTS:
        key = key.rpartition(".")[0]
    return AFFECTS.get(key, Affects.RESULT)


def variant_of(key: str) -> tuple[str, str] | None:
    """The choice under which a hyperparameter exists: the key of its family's name, and the variant."""
    for family, folder in FAMILIES.items():
        name = key.removeprefix(f"{family}.").partition(".")[0]
        if key.startswith(f"{family}.") and name in variant.names(folder):
            return f"{family}.name", name
    return None


@cache
def default(key: str) -> Any:
    """The plain value of a params key that nobody gives, so in all records from before there was such a key; None if
    it has none."""
    fields, name = FIELDS, key
    if chosen := variant_of(key):
        family, of = chosen[0].removesuffix(".name"), chosen[1]
        fields, name = variant.variant_class(FAMILIES[family], of).model_fields, key.removeprefix(f"{family}.{of}.")
    if name not in fields or fields[name].is_required():
        return None
    value = fields[name].get_default(call_default_factory=True)
    return list(value) if isinstance(value, tuple) else value


def list_differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys in which the params of two runs differ, of those that change a result. One that a side does not have,
    because it is newer than a record, has its default there."""
    keys = sorted(key for key in one.keys() | other.keys() if affects(key) & Affects.RESULT)
    return [key for key in keys if one.get(key, default(key)) != other.get(key, default(key))]


def keys_affecting(what: Affects, flat: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the params that affect any part of ``what``."""
    return {key: value for key, value in flat.items() if affects(key) & what}


def sections_affecting(what: Affects, flat: Mapping[str, Any]) -> dict[str, Any]:
    """The params in sections that affect any part of ``what``, with the keys in them that do not."""
    return {key: value for key, value in flat.items() if affects(key.partition(".")[0]) & what}


def load(path: Path = file.PATH) -> Config:
    """The config in a params file, checked. Raises UserError that names the key, the value and what is allowed."""
    return parse(file.read_params(path), str(path))


def load_scoring(path: Path = file.PATH) -> Scoring:
    """The sections in a params file that scoring reads; the others may be anything. Raises UserError like ``load``."""
    given = file.read_params(path)
    return sections.parse({key: given[key] for key in Scoring.model_fields if key in given}, str(path), Scoring)


def parse(values: dict[str, Any], source: str = str(file.PATH)) -> Config:
    """The config for plain ``values``; ``source`` begins every message. Raises UserError like ``load``."""
    return sections.parse(values, source, Config)
