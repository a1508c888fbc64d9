"""A ladder's file, and what an entry may be."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from ddpm.arms.maker import Maker, Pipeline
from ddpm.arms.run import Recipe, apply_overrides
from ddpm.base import files, sections
from ddpm.base.errors import UserError, blame, printable
from ddpm.base.variant import Members, names
from ddpm.ladder.axes import Climbable
from ddpm.params import config, file, presets
from ddpm.params.config import Config
from ddpm.referee import metrics
from ddpm.referee.guards import Guards
from ddpm.runs import rows
from ddpm.runs.rows import Rows
from ddpm.study import loading, plan
from ddpm.study.plan import NAME, is_of_recipe, params_of_result
from ddpm.verdicts.evidence import PAIRS, RANKS, Evidence
from ddpm.verdicts.verdict import Known

LADDERS = Path("ladders")
CHAMPION: Final = "champion"  # the sides of an attempt
CHALLENGER: Final = "challenger"
MEMORISATION = "memorisation"  # the guard that no challenger copies train images
IDEA: Final = "-idea"
SEARCH: Final = r"search-\d+"  # what the attempts of searches are called
OF_SEARCH: Final = rf"{SEARCH}({IDEA})?"  # and those with the best known idea before them
Changes = Mapping[str, Any]  # key of params.yaml -> value


class Terms(Climbable):
    """The content of a file in ladders/.

    base: the preset that is the first champion, with the values of ``common``. kind: ``target``: reach the score
    ``target`` at less cost than the champion; ``score``: a better score than the champion's, at the base's cost at
    most. primary: the metric that decides. cost: of training; operations include the optimizer's. Samples take at most
    the base's evaluations. may_change: keys and sections of params.yaml that entries may set. guards: metrics that must
    not get worse by more than their margin (``compare.threshold`` and ``floors``), and ``memorisation``.

    unseen: extractors that trials of a search leave out, so that a proof has eyes which chose nothing.
    """

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    base: str
    common: dict[str, Any] = Field(default={})
    kind: Literal["target", "score"]
    primary: str
    target: float | None = None
    cost: Literal["flops", "images"] = "flops"
    may_change: Annotated[tuple[str, ...], Field(min_length=1)]
    guards: tuple[str, ...] = ()
    unseen: Annotated[tuple[str, ...], Members("extractors")] = ()

    def refusals(self) -> Iterator[str]:
        if (self.target is None) == (self.kind == "target"):
            yield f"target: kind {self.kind} needs {'one' if self.target is None else 'none'}"
        if self.lengths.shares and self.kind == "target":
            yield "lengths: kind target has none: what its trials vary is their cost"
        if self.long and self.kind == "target":
            yield "long: kind target has none: another length is another target"
        if primary_of := [name for name in self.unseen if self.primary.startswith(f"{name}.")]:
            yield f"unseen: {primary_of[0]}: trials need it for {self.primary}"
        for name, keys in (("may_change", self.may_change), ("long", self.long.keys if self.long else ())):
            for key in keys:
                if not is_of_recipe(key):
                    yield f"{name}: {key}; allowed: keys of diffusion, model, train and sample"

    deterministic: ClassVar = False  # a training never is

    @property
    def guard_metrics(self) -> tuple[str, ...]:
        """The metrics among the guards."""
        return tuple(name for name in self.guards if name != MEMORISATION)

    @property
    def scores(self) -> list[tuple[str, str]]:
        """All metrics that it is about, each with its key."""
        return [("primary", self.primary), *(("guards", name) for name in self.guard_metrics)]


@dataclass(frozen=True)
class Contest:
    """A ladder that may be climbed. values: the params of its base, which scores in the features of the primary
    metric and the guards."""

    name: str
    path: Path
    terms: Terms
    values: Mapping[str, Any]
    commit: str = ""  # whose code makes its rows
    # by digest of changes, as the log and the trials are read often
    costs: dict[str, float] = field(default_factory=dict, init=False)
    recipes: dict[str, Recipe] = field(default_factory=dict, init=False)
    seeds_below: ClassVar = 2**40  # those of attempts; trials have as many above them
    of_program: ClassVar = False  # whether its runs are a program's

    @property
    def folder(self) -> Path:
        """Holds its log, its records and its page."""
        return self.path.with_suffix("")

    @cached_property
    def config(self) -> Config:
        """The base's params."""
        return self.params({})

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def find(self) -> Path:
        """The folder of the last search's find: its model and what that draws, which git ignores."""
        return self.folder / "find"

    @cached_property
    def rows(self) -> Rows:
        """Those of its attempts, which begin with the ladder's name and the attempt's key."""
        return Rows(self.folder / rows.NAME)

    @cached_property
    def identity(self) -> dict[str, str]:
        """Digests that must stay the same while it is climbed: of the file without the question and what a search
        tries, and of the base's params that affect what is learned and scored."""
        terms = self.terms.rules("question", "common", "unseen") | plan.margins(self.terms.common)
        parts = {"terms": terms, "base": params_of_result(self.config, defaults=False)}
        return {part: files.digest(value)[:16] for part, value in parts.items()}

    def recipe(self, changes: Changes, source: str = "") -> Recipe:
        """The base with changes, checked. Raises UserError."""
        if (key := files.digest(dict(changes))) not in self.recipes:
            source = source or str(self.path)
            params = apply_overrides(self.values, changes, source)
            self.recipes[key] = Recipe(params, config.parse(params, source))
        return self.recipes[key]

    def params(self, changes: Changes, source: str = "") -> Config:
        """The base's params with changes, checked. Raises UserError."""
        return self.recipe(changes, source).config

    def read_entry(self, path: Path | None, commit: str | None) -> tuple[str, dict[str, Any]]:
        """Name and changes of an entry, of the lines ``KEY: VALUE`` in its file. Raises UserError."""
        if path is None or not path.exists():
            named = path or f"{self.path}: ENTRY"
            raise UserError(f"{named}: missing; allowed: a file of lines KEY: VALUE of params.yaml")
        changes = file.read_params(path)
        if not re.fullmatch(NAME, path.stem) or not all(isinstance(key, str) for key in changes):
            raise UserError(
                f"{path}: an entry is NAME.yaml with lines KEY: VALUE; small letters, digits, - and _ in the name"
            )
        return path.stem, changes

    @cached_property
    def maker(self) -> Maker:
        """Who makes the rows of attempts, and the runs of trials."""
        return Pipeline(self.commit)

    def is_same(self, one: Changes, other: Changes) -> bool:
        """Whether two entries of one champion are the same."""
        return one == other

    def flat(self, changes: Changes, source: str = "") -> dict[str, Any]:
        """All params of the base with changes, by key. Raises UserError."""
        return self.params(changes, source).flat()

    @property
    def lengths(self) -> tuple[float, ...]:
        """Those of trials, as shares of a whole training, which is the last."""
        return (*self.terms.lengths.shares, 1.0)

    @property
    def longest(self) -> float:
        """The length at which a rung must hold: 1 unless it is to hold at a longer one, too."""
        return self.terms.long.factor if self.terms.long else 1.0

    def scale(self, changes: Changes, length: float) -> Changes:
        """The changes of a training of that length, a share or a multiple of a whole one. Raises UserError if a key's
        value is not a number."""
        if length == 1:
            return changes
        name, of = ("long", self.terms.long) if length > 1 else ("lengths", self.terms.lengths)
        whole, made = self.flat(changes), dict(changes)
        for key in of.keys if of else ():
            if not isinstance(value := whole.get(key), int | float):
                raise UserError(f"{self.path}: {name}: {key}: {value}; allowed: keys whose value is a number")
            least, share = min(value, 1), length * value  # of a whole number above 0
            made[key] = share if isinstance(value, float) else max(least, round(share))
        return made

    def trial(self, changes: Changes, seed: int, length: float = 1.0) -> dict[str, Any]:
        """The params of a trial, which has no eyes that are ``unseen``."""
        changes = self.scale(changes, length)
        eyes = [name for name in self.config.evaluate.extractors if name not in self.terms.unseen]
        return apply_overrides(self.values, {**changes, "evaluate.extractors": eyes, "seed": seed}, "a trial")

    def shorten(self, changes: Changes) -> Changes:
        """The changes without those that change nothing, so that a recipe has one spelling."""
        base = self.flat({})
        return {key: value for key, value in changes.items() if key not in base or base[key] != value}

    def evidence(self, entry: str) -> Evidence:
        """What decides a new attempt: the order of all runs for a search's, if the champion runs. Others need what
        assumes less, as a stream of ideas may have many of no use."""
        return RANKS if self.terms.kind == "score" and re.fullmatch(OF_SEARCH, entry) else PAIRS

    @property
    def known(self) -> Known:
        """Facts about the metrics."""
        return Guards(self.config.compare, self.terms.primary)

    def gain(self, difference: float, metric: str = "") -> float:
        """A difference in a metric, by default the primary one, signed so that positive is better."""
        return self.known.gain(metric or self.terms.primary, difference)

    def seed(self, changes: Changes, number: int) -> int:
        """The first of the seeds that the base is scored on, and of those of attempts that have drawn none: anybody can
        compute it."""
        return int(files.digest([self.name, dict(changes), number, None])[:10], 16)

    def cost(self, changes: Changes, source: str = "") -> float:
        """Of training the base with changes, in images or operations. Raises UserError if it is not known."""
        params = self.params(changes, source)
        if params.train.start_from is not None:
            given = f"train.start_from: {params.train.start_from}"
            raise UserError(f"{source or self.path}: {given}: its training has a cost that is unknown; allowed: null")
        if params.train.steps is None:
            raise UserError(f"{source or self.path}: train.epochs: its cost is unknown beforehand; set train.steps")
        if self.terms.cost == "images":
            return float(params.train.steps * params.train.batch_size)
        if (key := files.digest(dict(changes))) not in self.costs:
            from ddpm.training.flops import step_flops  # it imports torch

            self.costs[key] = float(params.train.steps * step_flops(params))
        return self.costs[key]

    @cached_property
    def limit(self) -> float:
        """The cost of the base."""
        return self.cost({})

    def check_allowed(self, key: str, source: str) -> None:
        """Raises UserError unless entries may change the key."""
        if not any(sections.is_in(key, (allowed,)) for allowed in self.terms.may_change):
            allowed = ", ".join(self.terms.may_change)
            raise UserError(f"{source}: {key}: {self.path} does not let entries change it; allowed: {allowed}")

    def check_images(self) -> None:
        """Raises UserError if ``data.source`` leads nowhere, or its images are too few or of no class to score."""
        loading.check_scores(self.recipe({}), self.terms.scores, str(self.path), look=True)

    def check(self, changes: Changes, champion: Changes, source: str, allow_null: bool = False) -> float:
        """The cost of an entry. Raises UserError unless it may try. champion: the champion's changes of the base."""
        for key in changes:
            self.check_allowed(key, source)
        whole = {**champion, **changes}
        params = self.params(whole, source)
        same = params_of_result(params, defaults=True) == params_of_result(self.params(champion), defaults=True)
        if same and not allow_null:
            raise UserError(f"{source}: changes nothing in the champion; --allow-null tries it anyway")
        cost = self.cost(whole, source)
        limit = self.cost(champion) if self.terms.kind == "target" else self.limit
        if cost > limit or (cost == limit and self.terms.kind == "target" and not same):
            allowed = "less than the champion's" if self.terms.kind == "target" else "at most the base's"
            raise UserError(
                f"{source}: its training costs {cost:.4g} {self.terms.cost}; allowed: {allowed} {limit:.4g}"
            )
        base, entry = self.config.diffusion, params.diffusion
        if (params.sample, entry.T, entry.schedule) != (self.config.sample, base.T, base.schedule):
            from ddpm.sampling import guidance  # it imports torch, which takes seconds

            asked, most = guidance.evaluations(params.sample, entry), guidance.evaluations(self.config.sample, base)
            if asked > most:
                raise UserError(
                    f"{source}: a sample takes {asked} evaluations of the network; allowed: at most the base's, {most}"
                )
        return cost


def parse(values: dict[str, Any], path: Path, commit: str = "") -> Contest:
    """The ladder in a file's plain values, checked. commit: whose code makes its rows. Raises UserError that names the
    key, its value and what is allowed."""
    terms = sections.parse(values, str(path), Terms)
    heads = dict.fromkeys(score.rpartition(".")[0] for _, score in terms.scores)
    extractors = [] if terms.primary == metrics.PANEL else [head for head in heads if head in names("extractors")]
    evaluated = {"evaluate.extractors": extractors} if extractors else {}
    with blame(f"{path}: base"):
        base = presets.read(terms.base)
    common = terms.model_dump(mode="json")["common"]
    contest = Contest(path.stem, path, terms, apply_overrides(base, {**evaluated, **common}, str(path)), commit)
    loading.check_device(contest.config, str(path))
    loading.check_scores(contest.recipe({}), terms.scores, str(path))
    return contest
