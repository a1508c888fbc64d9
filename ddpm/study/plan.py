"""A study's plan: one file in git that states the question, the variants, and when it may be decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError, printable
from ddpm.base.paths import PROCESSED, STUDIES
from ddpm.base.variant import closest
from ddpm.compare import metrics, runs, statistics
from ddpm.compare.pairing import Alike
from ddpm.data.processed import MANIFEST, read_manifest
from ddpm.params import config, file, inputs, presets
from ddpm.params.config import Config
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import AUTO, CHOICE
from ddpm.study import budget, grid
from ddpm.study.budget import Budget
from ddpm.study.sequential import Design

NAME = r"[a-z0-9][a-z0-9_-]{0,40}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Look = Annotated[int, Field(ge=2, le=200)]  # in seeds
SEED = re.compile(r"^seed: *\d+", re.MULTILINE)
MADE_BY = metric.makers()
Spending = Literal["pocock", "evalue"]
NOTHING: Mapping[str, Any] = MappingProxyType({})


def _rising(looks: tuple[int, ...]) -> tuple[int, ...]:
    if list(looks) != sorted(set(looks)):
        raise ValueError("must rise")
    return looks


def _judged(primary: str) -> str:
    try:
        metrics.direction(primary)
    except UserError as error:
        raise ValueError(str(error)) from error
    return primary


class Plan(sections.Section):
    """The content of a file in studies/. The first of ``variants`` is the baseline.

    variants: name -> params key (``diffusion.schedule.name``) -> value, on top of ``common``, the keys of all variants,
    on top of ``base``: a preset or, without one, the checked-out params.yaml. primary: the metric that the verdict is
    about; by default the Fréchet distance in the features of the baseline's first extractor. blind_to: damage to images
    that it may overlook, by ``ddpm sanity``.
    looks: numbers of seeds at which it may be decided. spending: how much of the error rate each look may spend
    (ddpm/study/sequential.py); with ``evalue``, which needs more seeds, looks may be changed and added at any time.
    first_seed: the first of the consecutive seeds; a study that extends another one starts where that one ended.
    may_differ: what the runs of one seed need not have in common (``pairing.check_alike``); everything else is refused.
    tune: values to try for each variant, on seeds that the verdict does not use (``Study.tuning``).
    budget: what all variants have equal (ddpm/study/budget.py).
    """

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    base: str | None = None
    common: dict[str, Any] = Field(default={})
    variants: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    primary: Annotated[str, AfterValidator(_judged)] = "classifier.fd"
    blind_to: tuple[metric.Damaged, ...] = ()
    looks: Annotated[tuple[Look, ...], Field(min_length=1), AfterValidator(_rising)] = (8, 12, 16, 20)
    spending: Spending = "pocock"
    first_seed: Annotated[int, Field(ge=0)] = 0
    may_differ: tuple[Alike, ...] = ()
    tune: grid.Tune | None = None
    budget: Budget = "images"


class OpenPrimary(UserError):
    """The plan names no primary metric, and the default depends on images that are not here."""


class Experiment(NamedTuple):
    """One run of one variant with one seed. base: the variant's params.yaml. config: its params, checked.

    changed: the params that differ from the base, by key, without the seed. tried: the values under test in a run for
    tuning, None in others. alternative: the place of its values in the grid, in a run that only ``claim: best`` needs.
    """

    name: str
    variant: str
    seed: int
    base: str
    config: Config
    changed: Mapping[str, Any] = NOTHING
    tried: Mapping[str, Any] | None = None
    alternative: int | None = None

    @property
    def text(self) -> str:
        """Its params.yaml, with the base's comments."""
        text = SEED.sub(f"seed: {self.seed}", self.base, count=1)
        return grid.overridden(text, self.changed, self.name) if self.changed else text


@dataclass(eq=False)
class Study:
    """A checked plan: every variant's params are valid, and no two are equal.

    name: of the file. params: variant -> its complete params as plain values, with the first seed. configs: the same,
    checked. texts: the same, as written. points: the same, checked, with all values to try; empty without ``tune``.
    chosen: variant -> the point at which it enters the verdict, once that is known. flops: variant -> operations of a
    training step; empty without ``budget: flops``.
    """

    name: str
    plan: Plan
    params: dict[str, dict[str, Any]]
    configs: dict[str, Config]
    texts: dict[str, str] = field(default_factory=dict)
    path: Path = Path("studies")
    points: dict[str, Sequence[grid.Point]] = field(default_factory=dict)
    chosen: Mapping[str, grid.Point] = field(default_factory=dict)
    flops: dict[str, int] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        return next(iter(self.plan.variants))

    @property
    def settings(self) -> Config:
        """The baseline's, by which all variants are judged."""
        return self.configs[self.baseline]

    @cached_property
    def hash(self) -> str:
        """Digest of the plan and of all params of its variants that affect what is learned and scored; without
        ``blind_to`` and ``may_differ``, which affect no number, and without defaults, so that it stays the same when
        keys are added. A network's hyperparameters count as they are written."""
        learned = {variant: _learned(checked, defaults=False) for variant, checked in self.configs.items()}
        for variant, checked in self.configs.items():
            block = f"model.{checked.model.name}"
            written = files.flatten({block: self.params[variant]["model"].get(checked.model.name) or {}})
            learned[variant] = {key: value for key, value in learned[variant].items() if not runs.under(key, block)}
            learned[variant] |= written
        free = {"looks"} if self.plan.spending == "evalue" else set()
        left_out = {"question", "base", "common", "variants", "may_differ", "blind_to", *free}
        plan = self.plan.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        return files.digest({"plan": plan, "variants": learned, "order": list(learned)})

    def experiments(self, upto: int | None = None) -> list[Experiment]:
        """The ordinary runs of the first ``upto`` seeds (default: all), seed by seed: each seed is complete early."""
        first, count = self.plan.first_seed, upto or self.plan.looks[-1]
        pairs = product(range(first, first + count), self.texts)
        return [self._experiment(f"{self.name}-{variant}-{seed}", variant, seed) for seed, variant in pairs]

    def tuning(self) -> list[Experiment]:
        """The runs that choose each variant's values, seed by seed. They draw their images from seeds of their own, and
        score the end of their training alone, which is what chooses."""
        if self.plan.tune is None:
            return []
        made = []
        places = range(len(self.plan.tune.grid))
        for (number, seed), place, variant in product(enumerate(self.plan.tune.drawn), places, self.points):
            values, chosen = self.points[variant][place]
            changed = {**values, "sample.seeds": _own_sets(chosen, grid.FIRST, number)}
            if chosen.train.snapshots:
                changed["train.snapshots"] = []
            name = f"{self.name}-{variant}-tune-{place + 1}-{number + 1}"
            made.append(Experiment(name, variant, seed, self.texts[variant], chosen, changed=changed, tried=values))
        return made

    @property
    def claims_best(self) -> bool:
        """Whether the verdict is to hold at each arm's best values, not only at those chosen."""
        return self.plan.tune is not None and self.plan.tune.claim == "best"

    def alternatives(self, upto: int | None = None) -> list[Experiment]:
        """With ``claim: best``, every arm at every point of the grid on the verdict's seeds, seed by seed. The verdict
        needs those that tuning leaves possible and that could overturn it (ddpm/study/best.py)."""
        if self.plan.tune is None or not self.claims_best:
            return []
        first, count = self.plan.first_seed, upto or self.plan.looks[-1]
        runs = []
        for seed, place, arm in product(range(first, first + count), range(len(self.plan.tune.grid)), self.points):
            name, (values, config) = f"{self.name}-{arm}-value-{place + 1}-{seed}", self.points[arm][place]
            runs.append(Experiment(name, arm, seed, self.texts[arm], config, changed=values, alternative=place))
        return runs

    def settled(self, chosen: Mapping[str, grid.Point]) -> Study:
        """The same study, with these variants at these points."""
        return replace(self, chosen=chosen)

    def is_open(self, experiment: Experiment) -> bool:
        """Whether the values that it runs with are not chosen yet."""
        fixed = experiment.tried is not None or experiment.alternative is not None
        return self.plan.tune is not None and not fixed and experiment.variant not in self.chosen

    def _experiment(self, name: str, variant: str, seed: int) -> Experiment:
        """One that runs with the variant's chosen values."""
        point = self.chosen.get(variant) or grid.Point({}, self.configs[variant])
        return Experiment(name, variant, seed, self.texts[variant], point.config, point.values)

    def lines(self) -> list[Experiment]:
        """Every experiment, in the order of ``--line``: what chooses values, what a look needs, and what ``claim:
        best`` may need."""
        return [*self.tuning(), *self.experiments(), *self.alternatives()]


def load(path: Path) -> Study:
    """The study in a file, checked. Raises UserError that names the key, its value and what is allowed."""
    if not path.exists():
        known = sorted(each.stem for each in STUDIES.glob("*.yaml"))
        there = f"; {STUDIES}/ has {', '.join(known)}" if known else ""
        raise UserError(f"{path}: no such study{closest(path.stem, known)}; `ddpm study new NAME` writes one{there}")
    return parse(file.read(path), path)


def parse(value: dict[str, Any], path: Path) -> Study:
    """Like ``load``, from the plain values of a file."""
    if path.suffix != ".yaml" or not re.fullmatch(NAME, path.stem):
        raise UserError(
            f"{path}: a study's file ends in .yaml, and its name has small letters, digits, - and _ (at most 41); "
            "`ddpm study new NAME` writes one"
        )
    plan = sections.parse(value, str(path), Plan)
    base = presets.text(plan.base) if plan.base else file.PATH.read_text(encoding="utf-8") if file.read() else ""
    budget.check(plan, str(path))
    study = Study(path.stem, plan, {}, {}, path=path)
    plain = plan.model_dump(mode="json")
    for variant, own in plain["variants"].items():
        overrides = plain["common"] | own
        source = f"{path}: variants.{variant}"
        if "seed" in overrides:
            raise UserError(f"{source}: seed: every variant gets the same seeds; first_seed says where they begin")
        changes = {**overrides, "seed": plan.first_seed}
        if plan.budget == "flops":
            trial = file.decode(grid.overridden(base, changes, source), source)
            study.flops[variant] = budget.per_step(config.check(trial, source))
            if variant != study.baseline:
                changes["train.steps"] = budget.steps(study, variant)
        study.texts[variant] = grid.overridden(base, changes, source)
        params = study.params[variant] = file.decode(study.texts[variant], source)
        study.configs[variant] = config.check(params, source)
        if plan.tune is not None:
            if fixed := [key for key in plan.tune.values if key in overrides]:
                raise UserError(f"{source}: {fixed[0]}: tune chooses it: take it out of the variant, or out of tune")
            study.points[variant] = grid.points(plan.tune, params, source)
    if "primary" not in plan.model_fields_set:
        study.plan = plan = plan.model_copy(update={"primary": _headline(study)})
    _distinct(path, study.configs)
    _apart(study)
    alpha = 1 - study.settings.compare.confidence
    fewest = Design(plan.looks, plan.spending).fewest(alpha) or statistics.fewest_seeds(alpha)
    if plan.looks[0] < fewest:
        raise UserError(f"{path}: looks: {plan.looks[0]} seeds cannot decide anything; allowed: {fewest} or more")
    for variant, chosen in study.configs.items():
        if missing := _missing(plan.primary, chosen):
            raise UserError(f"{path}: primary: no run of {variant} will have {plan.primary}: {missing}")
    return study


def _own_sets(chosen: Config, first: int, number: int) -> list[int]:
    """``sample.seeds`` that no other number has: as many as the config's, counted from the seed ``first``."""
    sets = len(chosen.sample.seeds)
    return list(range(first + number * sets, first + (number + 1) * sets))


def _headline(study: Study) -> str:
    """The primary metric of a plan that names none. Raises OpenPrimary if it depends on images that are not here."""
    options, params = study.settings.evaluate, study.params[study.baseline]
    if options.extractors[0] == AUTO:
        path = PROCESSED / MANIFEST
        made = {"path": str(path), "md5": files.md5(path)} if path.exists() else {}
        outs = inputs.recorded("preprocess")[0].get("outs", [])
        recorded = all(inputs.on_record(stage, params) for stage in ("download", "preprocess"))
        if not (recorded and any(made.items() <= out.items() for out in outs if made)):
            raise OpenPrimary(
                f"{study.path}: primary: missing, and what evaluate.extractors: [{AUTO}] means depends on the images, "
                f"which are not here: add `primary: {CHOICE[0]}.fd` if they have classes, a folder for each, or else "
                f"`primary: {CHOICE[1]}.fd`"
            )
        options = options.resolved(len(read_manifest(PROCESSED).classes))
    first = options.extractors[0]
    return f"{first}.{extractor.get(first).frechet}"


def _missing(score: str, chosen: Config) -> str:
    """Why a run with these params will not have the score; empty if it will."""
    features, _, kind = score.rpartition(".")
    options = chosen.evaluate
    if not features:
        return "" if options.likelihood.images else "its evaluate.likelihood.images is 0"
    if features not in options.extractors and not (AUTO in options.extractors and features in CHOICE):
        return f"its evaluate.extractors are {', '.join(options.extractors)}"
    if kind == metric.CLASS_ACCURACY.name:
        return "" if chosen.model.classes else "its model.classes is 0"
    if MADE_BY[kind] not in options.metrics:
        return f"its evaluate.metrics are {', '.join(options.metrics)}"
    frechet = extractor.get(features).frechet
    if metrics.estimated(score) in metrics.HEADLINE and metrics.estimated(score) != frechet:
        return f"the Fréchet distance of {features} is called {frechet}"
    return ""


def _distinct(path: Path, checked: Mapping[str, Config]) -> None:
    """Raises UserError if two variants are the same experiment."""
    seen: dict[str, str] = {}
    for variant, chosen in checked.items():
        key = files.digest(_learned(chosen, defaults=True))
        if key in seen:
            raise UserError(
                f"{path}: variants: {seen[key]} and {variant} are equal: give one of them another value, or drop it"
            )
        seen[key] = variant


def _apart(study: Study) -> None:
    """Raises UserError if a run for tuning has a seed or a name of the verdict's."""
    seeds = range(study.plan.first_seed, study.plan.first_seed + study.plan.looks[-1])
    if study.plan.tune and (same := [seed for seed in study.plan.tune.drawn if seed in seeds]):
        raise UserError(
            f"{study.path}: tune.seeds: {same[0]} is a seed of the verdict, which has {seeds[0]} to {seeds[-1]}: "
            "values are chosen on seeds that the verdict does not use"
        )
    names = {each.name for each in study.experiments()}
    if same_name := [each for each in (*study.tuning(), *study.alternatives()) if each.name in names]:
        other = same_name[0].name.rpartition("-")[0].removeprefix(f"{study.name}-")
        raise UserError(
            f"{study.path}: variants: {other}: runs for tuning have that name; give the variant another one"
        )


def _learned(chosen: Config, *, defaults: bool) -> dict[str, Any]:
    """The params that a result depends on, by key; those that are the defaults are included if ``defaults``."""
    return {key: value for key, value in chosen.flat(defaults).items() if not runs.is_in(key, runs.MECHANICAL)}
