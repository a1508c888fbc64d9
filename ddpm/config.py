"""params.yaml's values -> one frozen, validated Config."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from ddpm import params_file, variants
from ddpm.errors import UserError

if TYPE_CHECKING:
    from ddpm.datasets import Dataset
    from ddpm.emas import EMAProfile
    from ddpm.losses import Loss
    from ddpm.parameterizations import Parameterization
    from ddpm.samplers import Sampler
    from ddpm.schedules import Schedule
    from ddpm.timestep_samplers import TimestepSampler
    from ddpm.variances import Variance
else:
    # A stage depends on the contracts it uses, not on all; ``variants.build`` has made an instance of the right one.
    Dataset = EMAProfile = Loss = Parameterization = Sampler = Schedule = TimestepSampler = Variance = variants.Variant

DEVICE = r"(auto|cpu|cuda(:\d+)?)"
MIN_LOG_SNR = -80  # alpha_bar below e^-87 is no normal float32

# params key -> the folder of ddpm/ that holds its variants
FAMILIES = {
    "data.dataset": "datasets",
    "diffusion.schedule": "schedules",
    "diffusion.parameterization": "parameterizations",
    "diffusion.variance": "variances",
    "diffusion.loss": "losses",
    "train.timestep_sampler": "timestep_samplers",
    "train.ema": "emas",
    "sample.sampler": "samplers",
}

T = TypeVar("T", bound="TrainingConfig")
S = TypeVar("S", bound="Section")
Positive = Annotated[int, Field(ge=1)]


def _count(value: object) -> int | str:
    if value != "auto" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ValueError("a whole number of at least 1, or auto")
    return value


Count = Annotated[
    int | Literal["auto"],
    PlainValidator(_count),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]}),
]


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("1 or 3")
    return value


Channels = Annotated[Literal[1, 3], BeforeValidator(_no_bool)]  # True == 1 satisfies a Literal, even a strict one
Fraction = Annotated[float, Field(gt=0, lt=1)]
Spacing = Literal["uniform", "quadratic", "trailing", "log_snr"]  # of the steps that sampling visits


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ImageShape(Section):
    """Images are uint8 (channels, image_size, image_size)."""

    image_size: Annotated[int, Field(ge=4, le=1024)]
    channels: Channels


class Data(ImageShape):
    """What the model learns from, and how each picture becomes one of that shape."""

    dataset: InstanceOf[Dataset]
    source: str | None = None
    resize: Literal["squash", "crop"] = "crop"
    test_fraction: Fraction = 0.1
    split_seed: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["fail", "skip"] = "fail"


class Diffusion(Section):
    """The forward process and what the network is asked for."""

    T: Annotated[int, Field(ge=1, le=10_000)] = 1000
    schedule: InstanceOf[Schedule]
    parameterization: InstanceOf[Parameterization]
    variance: InstanceOf[Variance]
    loss: InstanceOf[Loss]

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if reasons := list(self.refusals()):
            raise ValueError("; ".join(reasons))
        return self

    def refusals(self) -> Iterator[str]:
        """Why these choices cannot work together; what each needs is told by its flags."""
        schedule, loss, learned = self.schedule, self.loss, self.variance.outputs == 2
        if self.parameterization.divides_by_signal and schedule.zero_terminal_snr:
            yield (
                f"parameterization: {self.parameterization.name} divides by the signal, of which "
                f"schedule.{schedule.name}.zero_terminal_snr: true leaves none at t = T; "
                f"allowed: {_with('parameterizations', 'divides_by_signal', False)}"
            )
        if not loss.trains_zero_snr and schedule.zero_terminal_snr:
            yield (
                f"loss: {loss.name} has no weight at t = T, where schedule.{schedule.name}.zero_terminal_snr: true "
                f"leaves no signal and sampling begins; allowed: {_with('losses', 'trains_zero_snr', True)}"
            )
        if learned and not loss.trains_variance:
            yield (
                f"loss: {loss.name} gives the learned variance of variance: {self.variance.name} no gradient; "
                f"allowed: {_with('losses', 'trains_variance', True)}"
            )
        if loss.needs_learned_variance and not learned:
            yield (
                f"variance: {self.variance.name} is fixed, and loss: {loss.name} adds to another loss only what "
                f"trains the variance; allowed: {_with('variances', 'outputs', 2)}"
            )
        try:
            last = float(schedule.noise_schedule(self.T).log_snr[-1])
        except ValueError as error:
            yield f"schedule: {schedule.name} makes no chain of T: {self.T} steps: {error}"
            return
        if last < MIN_LOG_SNR and not schedule.zero_terminal_snr:
            yield (
                f"schedule: {schedule.name} with T: {self.T} leaves a log-SNR of {last:.0f} at t = T, which float32 "
                f"cannot hold; allowed: at least {MIN_LOG_SNR}: use more steps or a milder schedule"
            )


class Model(Section):
    """The network's name and hyperparameters; ``ddpm.models.build`` checks them, because that needs torch."""

    model_config = ConfigDict(extra="allow")

    name: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        variants.check_name("models", self.name, "model.name")
        for name in self.model_extra or {}:
            variants.check_name("models", name, f"model.{name}")
        return self


class Train(Section):
    """Algorithm 1 and its optimizer. Exactly one of ``steps`` and ``epochs`` is set."""

    steps: Positive | None = None
    epochs: Positive | None = None
    batch_size: Count
    accumulate: Positive = 1
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    lr_decay: Literal["constant", "cosine"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    horizontal_flip: bool = False
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    timestep_sampler: InstanceOf[TimestepSampler]
    ema: InstanceOf[EMAProfile]
    channels_last: bool = False
    compile: bool = False
    deterministic: bool = True
    checkpoint_every: Positive = 1000
    grid_every: Annotated[int, Field(ge=0)] = 0
    grid_unit: Literal["steps", "epochs"] = "steps"

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs, and the other to null")
        if isinstance(self.batch_size, int) and self.batch_size % self.accumulate:
            raise ValueError(f"accumulate: {self.accumulate} must divide batch_size: {self.batch_size}")
        return self


class Sample(Section):
    """How images are drawn from the model."""

    count: Positive
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**63)], ...], Field(min_length=1)] = (0,)
    batch_size: Positive = 256
    sampler: InstanceOf[Sampler]
    steps: Positive
    spacing: Spacing = "uniform"
    clip_denoised: bool = True
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {list(self.seeds)} names one twice; each draws another set of images")
        return self


class Likelihood(Section):
    """How much of the bound on the likelihood is computed: of ``images`` of each split, at ``timesteps`` of its t."""

    images: Annotated[int, Field(ge=0)] = 0
    timesteps: Positive = 50


class Evaluate(Section):
    """Which features and which torch-fidelity metrics compare samples with real images."""

    extractors: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: Annotated[tuple[Literal["fid", "isc", "kid", "prc"], ...], Field(min_length=1)] = (
        "fid",
        "isc",
        "kid",
        "prc",
    )
    batch_size: Positive = 64
    kid_subsets: Positive = 100
    kid_subset_size: Annotated[int, Field(ge=2)] = 1000
    prc_neighborhood: Positive = 3
    likelihood: Likelihood = Likelihood()

    @model_validator(mode="after")
    def _known(self) -> Self:
        for name in self.extractors:
            variants.check_name("extractors", name, "evaluate.extractors")
        for field, chosen in {"extractors": self.extractors, "metrics": self.metrics}.items():
            if len(set(chosen)) < len(chosen):
                raise ValueError(f"{field}: [{', '.join(chosen)}] names one twice; each may stand once")
        return self


class Launch(Section):
    """On how many processes a stage runs: no choice of the experiment, whose results agree to rounding on any number.

    ``auto`` is one a GPU, or two on a CPU with two cores or more.
    """

    processes: Count = "auto"


class Compare(Section):
    """When ``ddpm compare`` calls a difference one. No stage reads it.

    threshold: the smallest gap that matters, as a share of the baseline's mean. confidence: of the intervals; one
    minus it is the false-positive rate of a verdict. power: the chance of a verdict that "seeds needed" aims at.
    """

    threshold: Annotated[float, Field(ge=0, lt=1)] = 0.013
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    power: Annotated[float, Field(ge=0.5, le=0.99)] = 0.8


class Gate(Section):
    """When ``ddpm gate`` calls a run worse than its baseline. No stage reads it.

    k: standard deviations between training seeds. metrics: the ones that decide, without their extractor's name.
    floors: changes that never count, in the metric's own unit.
    """

    k: Annotated[float, Field(gt=0)] = 3.0
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = ("fid", "fd", "bits_per_dim")
    floors: dict[str, Annotated[float, Field(ge=0)]] = {"fid": 0.05, "fd": 0.02, "bits_per_dim": 0.01}


class TrainingConfig(Section):
    """All that shapes a trained model; a model file's metadata holds it."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    data: ImageShape
    diffusion: Diffusion
    model: Model
    train: Train

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values that ``parse`` turns back into this config, variants with all their hyperparameters."""
        value: dict[str, Any] = json.loads(self.model_dump_json(serialize_as_any=True))
        return value


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

    def training(self) -> TrainingConfig:
        """What shapes a trained model, and nothing else."""
        shape = ImageShape(image_size=self.data.image_size, channels=self.data.channels)
        return TrainingConfig(seed=self.seed, data=shape, diffusion=self.diffusion, model=self.model, train=self.train)

    def only(self, keys: Iterable[str]) -> Self:
        """A copy with nothing but ``keys`` (``section`` or ``section.field``): reading another raises AttributeError.

        Stages get the keys that dvc.yaml lists for them, so that none can read what DVC does not watch.
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


def load(path: Path = params_file.PATH) -> Config:
    """Read and check a params file. Raises UserError that names the key, the value and what is allowed."""
    return parse(params_file.read(path), str(path))


def parse(value: Any, source: str, kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Plain values, from YAML or from a model file's metadata, to a config; ``source`` begins every message."""
    try:
        if not isinstance(value, dict):
            raise UserError(f"must be a mapping of sections, it is {type(value).__name__}")
        value = _freeze(value)
        for key, family in FAMILIES.items():
            section, _, field = key.partition(".")
            if isinstance(value.get(section), dict) and field in value[section]:
                built = variants.build(family, value[section][field], key)
                value[section] = {**value[section], field: built}
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{source}: {variants.explain(error, kind, '')}") from error
    except RecursionError as error:
        raise UserError(f"{source}: a section contains itself: mend its alias (*)") from error
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def section(kind: type[S], value: dict[str, Any]) -> S:
    """One section from plain values, e.g. a command's flags. Raises UserError that names the key."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(variants.explain(error, kind, kind.__name__.lower())) from error


def _with(family: str, flag: str, value: object) -> str:
    """Names of the family's variants whose class has that value of the flag."""
    classes = {name: variants.variant_class(family, name) for name in variants.names(family)}
    return ", ".join(name for name, cls in classes.items() if getattr(cls, flag) == value)


def _freeze(value: Any) -> Any:
    """Lists become tuples: sections are immutable all the way down. Raises UserError for a key that is no word."""
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise UserError(f"{variants.shown(odd[0])} is not allowed as a key: keys are words")
        return {key: _freeze(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_freeze(item) for item in value)
    return value
