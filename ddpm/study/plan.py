"""A study's plan: one file in git that states the question, the arms, and when it may be decided; and the runs
that it asks for, one by one. Arms are params of this trainer; or values of a program's command, its commits, or both.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from ddpm.arms.maker import Maker, Pipeline
from ddpm.arms.program_runs import Facts, ProgramMaker
from ddpm.arms.run import Kind, Recipe, Run
from ddpm.base import files, sections
from ddpm.base.errors import UserError, printable
from ddpm.base.paths import METRICS
from ddpm.base.sections import Affects
from ddpm.params.config import AFFECTS, Compare, Config, affects, keys_affecting
from ddpm.programs.program import COMMIT, Program
from ddpm.referee import Alike, guards, metrics, pairing
from ddpm.runs import record
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.verdict import Known

NAME = r"[a-z0-9][a-z0-9_-]{0,40}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Look = Annotated[int, Field(ge=2, le=200)]  # in seeds
TUNING_SEED = 2 * 10**6  # the first; above the seeds of any verdict
UNHASHED_LOOKS = (8, 12, 16, 20)  # the default when the first plans were hashed, without defaults


def _rising(looks: tuple[int, ...]) -> tuple[int, ...]:
    if not looks or list(looks) != sorted(set(looks)):
        raise ValueError("allowed: one number of seeds or more, rising")
    return looks


class Tune(sections.Section):
    """``KEY: [VALUES]`` for one or more keys of params.yaml, which make a grid; and ``seeds``, how many.

    Every arm is trained at every point of the grid with each of these seeds. It enters the verdict with the values
    that have the best mean of the primary metric.
    """

    model_config = ConfigDict(extra="allow")

    seeds: Annotated[int, Field(ge=2, le=64)] = 4  # one would not show how much the next may differ

    @model_validator(mode="after")
    def _grid(self) -> Self:
        if not self.values:
            raise ValueError("no key to tune; allowed: keys of params.yaml, such as train.learning_rate: [1.0e-3, ...]")
        for key, values in self.values.items():
            if not is_of_recipe(key):
                raise ValueError(f"{key}: cannot be tuned; allowed: keys of diffusion, model, train and sample")
            if not isinstance(values, list) or len(values) < 2 or any(values.count(value) > 1 for value in values):
                raise ValueError(f"{key}: {values} is not allowed; allowed: a list of two or more different values")
        return self

    @property
    def values(self) -> dict[str, Any]:
        """Key -> the list of values to try."""
        return self.model_dump(mode="json", exclude={"seeds"})

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Every combination, key -> value, in the plan's order; the last key varies fastest."""
        return [dict(zip(self.values, row, strict=True)) for row in product(*self.values.values())]


class Arms(sections.Section):
    """What all plans have. The first of ``arms`` is the baseline. looks: numbers of seeds at which it may be decided
    (ddpm/verdicts/sequential.py)."""

    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    looks: Annotated[tuple[Look, ...], AfterValidator(_rising)] = (6, 10, 15, 20)


class Plan(Arms):
    """The content of a file in studies/.

    arms: name -> params key (``diffusion.schedule.name``) -> value, on top of ``common``, the keys of all arms, on top
    of ``base``: a preset or, without one, the checked-out params.yaml; or a ``Program``. primary: the metric that the
    verdict is about; by default the Fréchet distance in the features of the baseline's first extractor, or the KID.
    first_seed: the first of the consecutive seeds; a study that extends another one starts where that one ended.
    may_differ: what the runs of one seed need not have in common (``pairing.check``); everything else is refused.
    tune: values to try for each arm, on seeds that the verdict does not use (``Study.tuning``).
    """

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    base: str | None = None
    common: dict[str, Any] = Field(default={})
    primary: str = "classifier.fd"
    first_seed: Annotated[int, Field(ge=0, le=TUNING_SEED // 2)] = 0
    may_differ: tuple[Alike, ...] = ()
    tune: Tune | None = None


class ProgramPlan(Program, Arms):
    """The content of a file in studies/ about a program; what it does not say here is as in ``Plan``. An arm has values
    of the command, and ``commit`` if it is not to be the one that is checked out at the first run."""

    base: ClassVar = "its values"
    tune: ClassVar = None
    may_differ: ClassVar = ("code",)

    first_seed: Annotated[int, Field(ge=0, le=2**30)] = 0

    def refusals(self) -> Iterator[str]:
        yield from super().refusals()
        if self.deterministic:
            yield "deterministic: true: a study compares arms over seeds; a ladder accepts what one run decides"


@dataclass(frozen=True, eq=False)
class Study:
    """A checked plan: every arm's params are valid, and no two are equal.

    name: of the file. arms: as the plan has them. grid: each arm with all values to try; empty without ``tune``.
    chosen: the recipe with which an arm enters the verdict, once that is known.
    """

    name: str
    plan: Plan
    arms: dict[str, Recipe]
    path: Path = Path("studies")
    of_program: ClassVar = False  # whether its runs are a program's
    grid: Mapping[str, Sequence[Recipe]] = field(default_factory=dict)
    chosen: dict[str, Recipe] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        return next(iter(self.plan.arms))

    @property
    def config(self) -> Config:
        """The baseline's, by which all arms are judged."""
        return self.arms[self.baseline].config

    @property
    def compare(self) -> Compare:
        """When a difference is real."""
        return self.config.compare

    def maker(self, commit: str) -> Maker:
        """Who makes its rows. commit: whose code does."""
        programs = (recipe.program for recipe in self.arms.values() if recipe.program)
        return Pipeline(commit, tuple(path for program in programs for path in program.files))

    @property
    def known(self) -> Known:
        """Facts about the metrics."""
        return guards.Guards(self.compare, self.plan.primary)

    def select_metrics(self, shared: set[str]) -> list[str]:
        """Those that are judged, of the scores that all runs have."""
        return metrics.select_judged(shared)

    def check(self, arms: Sequence[Arm], by: Sequence[str]) -> tuple[str, list[str]]:
        """The fingerprint that all runs share, and notes on them. Raises UserError if they cannot be compared."""
        fingerprint, differing = pairing.check(arms, by, self.plan.may_differ)
        return fingerprint, [*differing, *guards.yardsticks(arms, self.plan.primary)]

    @property
    def results(self) -> Path:
        """The folder for its verdict."""
        return METRICS / "studies" / self.name

    @cached_property
    def hash(self) -> str:
        """Digest of the plan and of all params of its arms that affect what is learned and scored; without
        ``may_differ``, which affects no number, and without defaults, so that it stays the same when keys are added. A
        network's hyperparameters count as they are written."""
        arms = {}
        for arm, recipe in self.arms.items():
            network = recipe.config.model.name
            params, block = params_of_result(recipe.config, defaults=False), f"model.{network}"
            arms[arm] = {key: value for key, value in params.items() if not sections.under(key, block)}
            arms[arm] |= files.flatten({block: recipe.params["model"].get(network) or {}})
            if program := recipe.program:
                scored = keys_affecting(Affects.SCORED, arms[arm])
                md5s = {path: files.md5(Path(path)) for path in program.files}
                arms[arm] = scored | program.model_dump(mode="json", exclude_defaults=True) | {"files": md5s}
        left_out = {"question", "base", "common", "arms", "may_differ", "looks"}
        plan = self.plan.model_dump(mode="json", exclude=left_out, exclude_defaults=True)
        if self.plan.looks != UNHASHED_LOOKS:
            plan["looks"] = [*self.plan.looks]
        plan |= margins(self.plan.common)
        return files.digest({"plan": plan, "arms": arms, "order": list(arms)})

    def is_open(self, run: Run) -> bool:
        """Whether the values that it runs with are not chosen yet."""
        return self.plan.tune is not None and run.kind == "verdict" and run.arm not in self.chosen

    def lines(self) -> list[Run]:
        """Every run, in the order of ``--line``, each kind seed by seed, so that each seed is complete early.

        First those that choose each arm's values. They draw their images from seeds of their own, and score the end of
        their training alone, which is what chooses. Then the verdict's.
        """
        runs, tune = [], self.plan.tune
        seeds = range(self.plan.first_seed, self.plan.first_seed + self.plan.looks[-1])
        places = range(len(tune.grid) if tune else 0)
        for number, place, arm in product(range(tune.seeds if tune else 0), places, self.grid):
            recipe = self.grid[arm][place]
            sets = len(recipe.config.sample.seeds)
            own: dict[str, Any] = {"sample.seeds": [TUNING_SEED + number * sets + k for k in range(sets)]}
            if recipe.config.train.snapshots:
                own["train.snapshots"] = []
            name, seed = f"{arm}-tune-{place + 1}-{number + 1}", TUNING_SEED + number
            runs.append(Run(name, arm, seed, recipe, "tuning", place, own))
        for seed, (arm, recipe) in product(seeds, (self.arms | self.chosen).items()):
            runs.append(Run(f"{arm}-{seed}", arm, seed, recipe, pictured=seed == seeds[0]))
        return runs

    def experiments(self, upto: int | None = None, kind: Kind = "verdict") -> list[Run]:
        """Those of one kind; of the verdict's seeds, the first ``upto``."""
        end = math.inf if upto is None else self.plan.first_seed + upto
        return [run for run in self.lines() if run.kind == kind and run.seed < end]


@dataclass(frozen=True, eq=False)
class ProgramStudy(Study):
    """A checked plan of a program. head: the commit of arms that name none."""

    plan: ProgramPlan  # type: ignore[assignment]
    head: str = ""
    of_program: ClassVar = True

    @property
    def compare(self) -> Compare:
        return Compare(threshold=0.0, floors={})

    @cached_property
    def hash(self) -> str:
        return files.digest(self.plan.model_dump(mode="json", exclude={"question"}))

    @property
    def known(self) -> Facts:
        return Facts.of(self.plan)

    def select_metrics(self, shared: set[str]) -> list[str]:
        return [*self.plan.directions]

    def check(self, arms: Sequence[Arm], by: Sequence[str]) -> tuple[str, list[str]]:
        self.known.check_distinct(arms)
        return "", []

    def maker(self, commit: str) -> ProgramMaker:
        uses_head = any(COMMIT not in arm for arm in self.plan.arms.values())
        return ProgramMaker(self.plan, commit, self.head if uses_head else "")


def check_name(path: Path, what: str, folder: Path | None = None) -> None:
    """Raises UserError unless it may be the file of a ``what``, such as a study, in ``folder`` if there is one."""
    if path.suffix != ".yaml" or not re.fullmatch(NAME, path.stem):
        allowed = "NAME.yaml, with at most 41 small letters, digits, - and _ in the name"
        raise UserError(f"{path}: not the file of a {what}; allowed: {allowed}")
    if folder and path.parent != folder:
        raise UserError(f"{path}: a {what} is a file {folder}/NAME.yaml, so that no two share a name")


def params_of_result(of_arm: Config, *, defaults: bool) -> dict[str, Any]:
    """The params that a result depends on, by key; those that are the defaults are included if ``defaults``."""
    return keys_affecting(Affects.RESULT, of_arm.flat(defaults))


def margins(common: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a file's common params that say what matters. They change no run, but what its scores show."""
    return {key: value for key, value in common.items() if sections.under(key, "compare")}


def is_of_recipe(key: str) -> bool:
    """Whether a params key, or a whole section, says how a model learns or draws, and nothing of how it is judged."""
    marks = [mark for known, mark in AFFECTS.items() if sections.under(known, key)] or [affects(key)]
    recipe, judged = (any(mark & what for mark in marks) for what in (Affects.LEARNED | Affects.DRAWN, Affects.SCORED))
    return recipe and not judged and key != record.SEED
