"""The experiments of a study: what its plan asks for, one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from ddpm.base import files
from ddpm.base.paths import METRICS
from ddpm.params.config import Config
from ddpm.runs import alike
from ddpm.study import grid
from ddpm.study.plan import Plan, Program

SEED = re.compile(r"^seed: *\d+", re.MULTILINE)
SCORED_BY = ("data", "evaluate", "sample.count")  # what a program's arm shares with all others
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Experiment(NamedTuple):
    """One run of one arm with one seed. name: of its record's file. base: the arm's params.yaml. config: its params,
    checked; of a program, which has another trainer, what it says about data and scores counts.

    changed: the params that differ from the base, by key, without the seed. tried: the values under test in a run for
    tuning, None in others. alternative: the place of its values in the grid, in a run that only ``claim: best`` needs.
    """

    name: str
    arm: str
    seed: int
    base: str
    config: Config
    changed: Mapping[str, Any] = NOTHING
    tried: Mapping[str, Any] | None = None
    alternative: int | None = None
    program: Program | None = None

    @property
    def text(self) -> str:
        """Its params.yaml, with the base's comments."""
        text = SEED.sub(f"seed: {self.seed}", self.base, count=1)
        return grid.overridden(text, self.changed, self.name) if self.changed else text


@dataclass(eq=False)
class Study:
    """A checked plan: every arm's params are valid, and no two are equal.

    name: of the file. params: arm -> its complete params as plain values, with the first seed. configs: the same,
    checked. texts: the same, as written. points: the same, checked, with all values to try; empty without ``tune``.
    chosen: arm -> the point at which it enters the verdict, once that is known. flops: arm -> operations of a
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
    programs: dict[str, Program] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        return next(iter(self.plan.arms))

    @property
    def config(self) -> Config:
        """The baseline's, by which all arms are judged."""
        return self.configs[self.baseline]

    @property
    def results(self) -> Path:
        """The folder for its verdict."""
        return METRICS / "studies" / self.name

    @cached_property
    def hash(self) -> str:
        """Digest of the plan and of all params of its arms that affect what is learned and scored; without
        ``blind_to`` and ``may_differ``, which affect no number, and without defaults, so that it stays the same when
        keys are added. A network's hyperparameters count as they are written."""
        params = {arm: learned(checked, defaults=False) for arm, checked in self.configs.items()}
        for arm, checked in self.configs.items():
            block = f"model.{checked.model.name}"
            written = files.flatten({block: self.params[arm]["model"].get(checked.model.name) or {}})
            params[arm] = {key: value for key, value in params[arm].items() if not alike.under(key, block)}
            params[arm] |= written
        for arm, program in self.programs.items():
            scored = {key: value for key, value in params[arm].items() if alike.is_in(key, SCORED_BY)}
            params[arm] = scored | program.model_dump(mode="json") | {"files": program.digests()}
        free = {"looks"} if self.plan.spending == "evalue" else set()
        left_out = {"question", "base", "common", "arms", "may_differ", "blind_to", *free}
        plan = self.plan.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        return files.digest({"plan": plan, "arms": params, "order": list(params)})

    def experiments(self, upto: int | None = None) -> list[Experiment]:
        """The ordinary runs of the first ``upto`` seeds (default: all), seed by seed: each seed is complete early."""
        first, count = self.plan.first_seed, upto or self.plan.looks[-1]
        pairs = product(range(first, first + count), self.texts)
        return [self._experiment(f"{arm}-{seed}", arm, seed) for seed, arm in pairs]

    def tuning(self) -> list[Experiment]:
        """The runs that choose each arm's values, seed by seed. They draw their images from seeds of their own, and
        score the end of their training alone, which is what chooses."""
        if self.plan.tune is None:
            return []
        experiments = []
        places = range(len(self.plan.tune.grid))
        for (number, seed), place, arm in product(enumerate(self.plan.tune.drawn), places, self.points):
            values, config = self.points[arm][place]
            changed = {**values, "sample.seeds": _own_sets(config, grid.FIRST, number)}
            if config.train.snapshots:
                changed["train.snapshots"] = []
            name = f"{arm}-tune-{place + 1}-{number + 1}"
            experiments.append(Experiment(name, arm, seed, self.texts[arm], config, changed=changed, tried=values))
        return experiments

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
            name, (values, config) = f"{arm}-value-{place + 1}-{seed}", self.points[arm][place]
            runs.append(Experiment(name, arm, seed, self.texts[arm], config, changed=values, alternative=place))
        return runs

    def settled(self, points: Mapping[str, grid.Point]) -> Study:
        """The same study, with these arms at these points."""
        return replace(self, chosen=points)

    def is_open(self, experiment: Experiment) -> bool:
        """Whether the values that it runs with are not chosen yet."""
        fixed = experiment.tried is not None or experiment.alternative is not None
        return self.plan.tune is not None and not fixed and experiment.arm not in self.chosen

    def _experiment(self, name: str, arm: str, seed: int) -> Experiment:
        """One that runs with the arm's chosen values."""
        point = self.chosen.get(arm) or grid.Point({}, self.configs[arm])
        program = self.programs.get(arm)
        return Experiment(name, arm, seed, self.texts[arm], point.config, point.values, program=program)

    def leaves_picture(self, experiment: Experiment) -> bool:
        """Whether it is an arm's first run for the verdict."""
        first = experiment.seed == self.plan.first_seed
        return first and experiment.tried is None and experiment.alternative is None

    def lines(self) -> list[Experiment]:
        """Every experiment, in the order of ``--line``: what chooses values, what a look needs, and what ``claim:
        best`` may need."""
        return [*self.tuning(), *self.experiments(), *self.alternatives()]


def _own_sets(of_arm: Config, first: int, number: int) -> list[int]:
    """``sample.seeds`` that no other number has: as many as the config's, counted from the seed ``first``."""
    sets = len(of_arm.sample.seeds)
    return list(range(first + number * sets, first + (number + 1) * sets))


def learned(of_arm: Config, *, defaults: bool) -> dict[str, Any]:
    """The params that a result depends on, by key; those that are the defaults are included if ``defaults``."""
    return {key: value for key, value in of_arm.flat(defaults).items() if not alike.is_in(key, alike.MECHANICAL)}
