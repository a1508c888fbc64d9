"""The experiments of a study: what its plan asks for, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.paths import METRICS
from ddpm.params.config import Config
from ddpm.runs import alike
from ddpm.study.plan import TUNING_SEED, Plan, Program

SCORED_BY = ("data", "evaluate", "sample.count")  # what a program's arm shares with all others
Kind = Literal["verdict", "tuning", "best", "champion", "challenger"]


class Point(NamedTuple):
    """Values of the tuned keys, and an arm's config with them."""

    values: Mapping[str, Any]
    config: Config


class Experiment(NamedTuple):
    """One run of one arm with one seed. name: of its record's file. base: the arm's params, as plain values. changed:
    those that differ from the base, by key, without the seed. config: the params, checked; of a program, which has
    another trainer, what it says about data and scores counts.

    kind: what asks for it: the verdict, the choice of values, only ``claim: best``, or a side of an attempt on a
    ladder. place: of its values in the grid, unless it runs with the arm's chosen ones.
    """

    name: str
    arm: str
    seed: int
    base: Mapping[str, Any]
    changed: Mapping[str, Any]
    config: Config
    kind: Kind = "verdict"
    place: int | None = None
    program: Program | None = None

    @property
    def may_diverge(self) -> bool:
        """Whether a training that diverges is a result. In a verdict it would be a hole."""
        return self.kind in ("tuning", "challenger")

    @property
    def params(self) -> dict[str, Any]:
        """The content of its params.yaml."""
        return changed(self.base, {**self.changed, "seed": self.seed}, self.name)


@dataclass(eq=False)
class Study:
    """A checked plan: every arm's params are valid, and no two are equal.

    name: of the file. params: arm -> its complete params as plain values, with the first seed. configs: the same,
    checked. points: the same, checked, with all values to try; empty without ``tune``.
    chosen: arm -> the point at which it enters the verdict, once that is known.
    """

    name: str
    plan: Plan
    params: dict[str, dict[str, Any]]
    configs: dict[str, Config]
    path: Path = Path("studies")
    points: dict[str, Sequence[Point]] = field(default_factory=dict)
    chosen: Mapping[str, Point] = field(default_factory=dict)
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

    @property
    def claims_best(self) -> bool:
        """Whether the verdict is to hold at each arm's best values, not only at those chosen."""
        return self.plan.tune is not None and self.plan.tune.claim == "best"

    def settled(self, points: Mapping[str, Point]) -> Study:
        """The same study, with these arms at these points."""
        return replace(self, chosen=points)

    def is_open(self, experiment: Experiment) -> bool:
        """Whether the values that it runs with are not chosen yet."""
        return self.plan.tune is not None and experiment.kind == "verdict" and experiment.arm not in self.chosen

    def experiments(self, upto: int | None = None) -> list[Experiment]:
        """The verdict's runs of the first ``upto`` seeds (default: all), seed by seed: each seed is complete early."""
        runs = []
        for seed, arm in product(self._seeds(upto), self.configs):
            point = self.chosen.get(arm) or Point({}, self.configs[arm])
            program = self.programs.get(arm)
            runs.append(Experiment(f"{arm}-{seed}", arm, seed, self.params[arm], *point, program=program))
        return runs

    def tuning(self) -> list[Experiment]:
        """The runs that choose each arm's values, seed by seed. They draw their images from seeds of their own, and
        score the end of their training alone, which is what chooses."""
        if self.plan.tune is None:
            return []
        runs = []
        for number, place, arm in product(range(self.plan.tune.seeds), range(len(self.plan.tune.grid)), self.points):
            values, config = self.points[arm][place]
            sets = len(config.sample.seeds)
            values = {**values, "sample.seeds": [TUNING_SEED + number * sets + k for k in range(sets)]}
            if config.train.snapshots:
                values["train.snapshots"] = []
            name, seed = f"{arm}-tune-{place + 1}-{number + 1}", TUNING_SEED + number
            runs.append(Experiment(name, arm, seed, self.params[arm], values, config, "tuning", place))
        return runs

    def alternatives(self, upto: int | None = None) -> list[Experiment]:
        """With ``claim: best``, every arm at every point of the grid on the verdict's seeds, seed by seed. The verdict
        needs those that tuning leaves possible and that could overturn it (ddpm/study/best.py)."""
        if self.plan.tune is None or not self.claims_best:
            return []
        return [
            Experiment(f"{arm}-value-{place + 1}-{seed}", arm, seed, self.params[arm], *points[place], "best", place)
            for seed in self._seeds(upto)
            for place in range(len(self.plan.tune.grid))
            for arm, points in self.points.items()
        ]

    def lines(self) -> list[Experiment]:
        """Every experiment, in the order of ``--line``: what chooses values, what a look needs, and what ``claim:
        best`` may need."""
        return [*self.tuning(), *self.experiments(), *self.alternatives()]

    def _seeds(self, upto: int | None) -> range:
        return range(self.plan.first_seed, self.plan.first_seed + (upto or self.plan.looks[-1]))


def learned(of_arm: Config, *, defaults: bool) -> dict[str, Any]:
    """The params that a result depends on, by key; those that are the defaults are included if ``defaults``."""
    return {key: value for key, value in of_arm.flat(defaults).items() if not alike.is_in(key, alike.MECHANICAL)}


def changed(params: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A copy of params with values set at dotted keys. Raises UserError for a key that leads through anything but
    sections."""
    copy = deepcopy(dict(params))
    for key, value in overrides.items():
        *sections, last = key.split(".")
        block = copy
        for section in sections:
            block = block.setdefault(section, {})
            if not isinstance(block, dict):
                raise UserError(f"{source}: {key}: {section} is a value, no section; allowed: a key of params.yaml")
        block[last] = value
    return copy
