"""The space of a ladder's file: what a search may vary, and the changes that follow from a choice of values."""

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ddpm.base.errors import UserError
from ddpm.ladder.axes import BUDGET, Axis, Range
from ddpm.ladder.terms import Changes, Contest
from ddpm.params import config
from ddpm.report.blocks import plain

STEPS = "train.steps"
SHARE = "share of the champion's cost"  # a name for the only thing that is searched and is no key of params.yaml
SHARES = Range(low=0.02, high=0.9, log=True)  # of kind target: a tenth less is worth a proof
START = 0.5  # of an idea that does not say how long it trains
TRIAL = "a trial"  # where a mistake is, in its message


@dataclass(frozen=True)
class Space:
    """The space of a ladder, around a champion, of which ``champion`` are the changes of the base, in short.

    Raises UserError for a key that is not allowed or not known, and for a value that it cannot have.
    """

    contest: Contest
    champion: Changes

    def __post_init__(self) -> None:
        contest = self.contest
        if not contest.terms.space:
            raise UserError(f"{contest.path}: space: missing; `ddpm ladder new NAME` writes a file that has one")
        for key, axis in contest.terms.space.items():
            source, condition = f"{contest.path}: space", config.variant_of(key)
            contest.check_allowed(key, source)
            if axis == BUDGET and key != STEPS:
                raise UserError(f"{source}: {key}: {BUDGET}: allowed for {STEPS} alone; here, a list, or low and high")
            for value in (axis.low, axis.high) if isinstance(axis, Range) else () if axis == BUDGET else axis:
                contest.flat({**dict([condition] if condition else []), key: value}, source)
        for length in contest.lengths[:-1]:
            for key in (short := contest.scale({}, length)):
                contest.check_allowed(key, f"{contest.path}: lengths")
            contest.flat(short, f"{contest.path}: lengths")
        for idea in contest.terms.model_dump(mode="json")["ideas"]:
            if not idea:
                raise UserError(f"{contest.path}: ideas: {{}} is empty; allowed: keys of params.yaml, as KEY: VALUE")
            contest.flat(idea, f"{contest.path}: ideas")

    @cached_property
    def usual(self) -> dict[str, Any]:
        """The champion's params by key."""
        return self.contest.flat(self.champion)

    @cached_property
    def limit(self) -> float:
        """What a trial costs at most, or less than, for kind target."""
        return self.contest.cost(self.champion) if self.contest.terms.kind == "target" else self.contest.limit

    @cached_property
    def axes(self) -> dict[str, Axis]:
        """What is drawn, hyperparameters after the choice of their variants."""
        axes = {key: axis for key, axis in self.contest.terms.space.items() if axis != BUDGET}
        drawn = dict(sorted(axes.items(), key=lambda item: config.variant_of(item[0]) is not None))
        if self.contest.terms.kind == "target" and self.contest.terms.space.get(STEPS) == BUDGET:
            drawn[SHARE] = SHARES
        return drawn

    def make_changes(self, values: Changes) -> Changes:
        """The changes of the base that a choice of values makes, with the steps that they can afford. Raises UserError
        if they cannot be trained or may not be tried."""
        changes = {**self.champion, **self.select(values)}
        share = changes.pop(SHARE, 1.0)
        if self.contest.terms.space.get(STEPS) == BUDGET:
            step = self.contest.cost({**changes, STEPS: 1}, TRIAL)
            if (steps := math.floor(share * self.limit / step)) < 1:
                raise UserError(f"{TRIAL}: a single step costs {step:.4g} {self.contest.terms.cost}, more than all may")
            changes[STEPS] = steps
        self.contest.check(changes, self.champion, TRIAL, allow_null=True)
        return self.contest.shorten(changes)

    def place(self, changes: Changes, cost: float) -> dict[str, Any] | None:
        """The values of a trial that has these changes of the base, by what is drawn: of a range the nearest, and the
        first of what does not apply. None if a list does not have its value."""
        values = self.select(self.contest.flat(changes) | {SHARE: cost / self.limit})
        for key, value in values.items():
            if isinstance(axis := self.axes[key], Range) and value is not None:
                values[key] = min(max(value, axis.low), axis.high)
            elif value not in axis:
                return None
        return {key: axis.low if isinstance(axis, Range) else axis[0] for key, axis in self.axes.items()} | values

    def select(self, values: Changes) -> dict[str, Any]:
        """Those of the values that are drawn, without the hyperparameters of variants that they do not choose."""
        conditions = {key: config.variant_of(key) for key in self.axes if key in values}
        return {
            key: values[key]
            for key, condition in conditions.items()
            if condition is None or values.get(condition[0], self.usual.get(condition[0])) == condition[1]
        }

    def starts(self, ideas: Iterator[Changes]) -> Iterator[Changes]:
        """The changes of the base that each idea makes within the space, after the champion itself; ideas that may not
        be tried are left out."""
        yield self.champion
        for idea in ideas:
            with suppress(UserError):
                changes = {**self.champion, **{key: v for key, v in idea.items() if key in self.contest.terms.space}}
                values = self.contest.flat(changes)
                share = self.contest.cost(changes) / self.limit if STEPS in idea else START
                values[SHARE] = min(share, SHARES.high)
                yield self.make_changes(values)

    def entry(self, changes: Changes) -> Changes:
        """The changes of the champion that make a trial of it, whose changes are of the base."""
        base = self.contest.flat({})
        back = {key: base[key] for key in self.champion if key not in changes and key in base}
        return {key: value for key, value in {**back, **changes}.items() if self.usual.get(key, back) != value}

    def describe(self, changes: Changes, length: float = 1.0) -> str:
        """A recipe in words: in what it differs from the champion, and how short its training is."""
        made = [
            f"{(key.partition('.')[2] or key).removesuffix('.name')} {plain(value)}"
            for key, value in self.entry(changes).items()
        ]
        return ", ".join(made or ["the champion"]) + ("" if length == 1 else f", {length:.3g} of the length")
