"""A study's plan: one file in git that says what is asked, of which variants, and when it may be decided."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator

from ddpm.base import files, settings
from ddpm.base.errors import UserError
from ddpm.base.settings import Section
from ddpm.compare import metrics, runs, statistics
from ddpm.params import config, file, presets
from ddpm.params.config import Config
from ddpm.study.sequential import Design

NAME = r"[a-z0-9][a-z0-9_-]{0,40}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Spending = Literal["pocock", "obrien_fleming", "linear", "evalue"]


class Plan(Section):
    """What a file of studies/ says. The first of ``variants`` is the baseline.

    variants: name -> params key (``diffusion.schedule.name``) -> value, on top of ``base``, a preset or, without one,
    the params.yaml that is checked out. primary: the metric that the verdict is about. looks: numbers of seeds at
    which it may be decided. spending: how much of the error rate each look may spend (ddpm/study/sequential.py); with
    ``evalue``, which needs more seeds, looks may be changed and added at any time.
    first_seed: of the seeds, which follow one another; a study that extends another one begins where that ended.
    """

    question: Annotated[str, Field(min_length=1)]
    base: str | None = None
    variants: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    primary: str = "classifier.fd"
    looks: Annotated[tuple[Annotated[int, Field(ge=2, le=200)], ...], Field(min_length=1)] = (8, 12, 16, 20)
    spending: Spending = "pocock"
    first_seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("looks")
    @classmethod
    def _rise(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        if list(looks) != sorted(set(looks)):
            raise ValueError("must rise")
        return looks

    @field_validator("primary")
    @classmethod
    def _judged(cls, primary: str) -> str:
        try:
            metrics.direction(primary)
        except UserError as error:
            raise ValueError(str(error)) from error
        return primary


class Experiment(NamedTuple):
    """One training of one variant with one seed."""

    name: str
    variant: str
    seed: int
    params: dict[str, Any]


class Study:
    """A plan that was checked: every variant's params are valid, and no two are equal.

    name: the file's. params: variant -> its whole params file, as plain values, with the first seed.
    """

    def __init__(self, name: str, plan: Plan, params: Mapping[str, dict[str, Any]], checked: Mapping[str, Config]):
        self.name = name
        self.plan = plan
        self.params = params
        self.configs = checked

    @property
    def baseline(self) -> str:
        return next(iter(self.plan.variants))

    @property
    def hash(self) -> str:
        """Digest of the plan and of all that its variants' params say about what is learned and scored."""
        learned = {variant: _learned(checked) for variant, checked in self.configs.items()}
        free = {"looks"} if self.plan.spending == "evalue" else set()
        plan = self.plan.model_dump(mode="json", exclude={"question", "base", "variants", *free})
        return files.digest({"plan": plan, "variants": learned, "order": list(learned)})

    def experiments(self, upto: int | None = None) -> list[Experiment]:
        """Every experiment of the first ``upto`` seeds (all): seed by seed, so that each seed is complete early."""
        count = self.plan.looks[-1] if upto is None else upto
        return [
            Experiment(f"{self.name}-{variant}-{seed}", variant, seed, {**params, "seed": seed})
            for seed in range(self.plan.first_seed, self.plan.first_seed + count)
            for variant, params in self.params.items()
        ]


def load(path: Path) -> Study:
    """Read and check a study's file. Raises UserError that names the key, its value and what is allowed."""
    if not path.suffix == ".yaml":
        raise UserError(f"{path}: a study is a file of studies/ that ends in .yaml; `ddpm study new NAME` writes one")
    name = path.stem
    plan = settings.parse(file.read(path), str(path), Plan)
    base = file.read() if plan.base is None else file.decode(presets.text(plan.base), f"preset {plan.base}")
    params, checked = {}, {}
    for variant, overrides in plan.model_dump(mode="json")["variants"].items():
        source = f"{path}: variants.{variant}"
        params[variant] = overridden(base, {**overrides, "seed": plan.first_seed}, source)
        checked[variant] = config.check(params[variant], source)
    study = Study(name, plan, params, checked)
    _distinct(path, checked)
    alpha = 1 - checked[study.baseline].compare.confidence
    fewest = Design(plan.looks, plan.spending).fewest(alpha) or statistics.fewest_seeds(alpha)
    if plan.looks[0] < fewest:
        raise UserError(f"{path}: looks: {plan.looks[0]} seeds cannot decide anything; allowed: {fewest} or more")
    return study


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """``base`` with the values of dotted keys. Raises UserError for a key that goes through something else."""
    whole: dict[str, Any] = deepcopy(dict(base))
    for key, value in overrides.items():
        *sections, last = key.split(".")
        block = whole
        for section in sections:
            block = block.setdefault(section, {})
            if not isinstance(block, dict):
                raise UserError(f"{source}: {key}: {section} is a value, no section; allowed: a key of params.yaml")
        block[last] = value
    return whole


def _distinct(path: Path, checked: Mapping[str, Config]) -> None:
    """Raises UserError when two variants are the same experiment."""
    seen: dict[str, str] = {}
    for variant, chosen in checked.items():
        key = files.digest(_learned(chosen))
        if key in seen:
            raise UserError(
                f"{path}: variants: {seen[key]} and {variant} are equal: give one another value, or drop it"
            )
        seen[key] = variant


def _learned(chosen: Config) -> dict[str, Any]:
    """The params that a result depends on, by key."""
    return {key: value for key, value in runs.plain_params(chosen).items() if not runs.is_in(key, runs.MECHANICAL)}
