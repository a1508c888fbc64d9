"""The space of a ladder's file: what a search may vary, the changes that follow from a choice of values, and what to
try next, which Optuna proposes.

After RANDOM trials, a Gaussian process of the scores and of what breaks guards (GPSampler) draws all keys together.
Each fifth trial stays random, since the process rarely tries two changes together of which each does harm alone. The
hyperparameters of a variant are part of it, at their first value where another variant is chosen. A proposal follows
from the trials and a seed, so nothing needs to be kept but the file of trials, and several processes may search at the
same time.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from statistics import median
from typing import Any

from ddpm.base.errors import UserError
from ddpm.ladder import climb, trials
from ddpm.ladder.axes import BUDGET, Axis, Range
from ddpm.ladder.terms import LADDERS, Changes, Contest
from ddpm.ladder.trials import Trial
from ddpm.params import config
from ddpm.report.blocks import plain

STEPS = "train.steps"
SHARES = 0.02, 0.9  # of the champion's steps, between which kind target searches: a tenth less is worth a proof
START = 0.5  # the share of an idea that does not say how long it trains
TRIAL = "a trial"  # where a mistake is, in its message
RANDOM, EACH = 12, 5  # trials before the Gaussian process proposes; after them, each of that number is random
IMPOSSIBLE = 100  # proposals in a row that may not be tried


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
        contest.cost(self.champion)  # which is unknown if it trains for epochs
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
    def axes(self) -> dict[str, Axis]:
        """What is drawn, hyperparameters after the choice of their variants."""
        axes = {key: axis for key, axis in self.contest.terms.space.items() if axis != BUDGET}
        if self.contest.terms.kind == "target" and self.contest.terms.space.get(STEPS) == BUDGET:
            low, high = (max(1, round(share * self.usual[STEPS])) for share in SHARES)
            axes[STEPS] = Range(low=low, high=high, log=True)
        return dict(sorted(axes.items(), key=lambda item: config.variant_of(item[0]) is not None))

    def make_changes(self, values: Changes) -> Changes:
        """The changes of the base that a choice of values makes, with the steps that they can afford if none are drawn.
        Raises UserError if they cannot be trained or may not be tried."""
        changes = {**self.champion, **self.select(values)}
        if self.contest.terms.space.get(STEPS) == BUDGET and STEPS not in self.axes:
            step = self.contest.cost({**changes, STEPS: 1}, TRIAL)
            if (steps := math.floor(self.contest.limit / step)) < 1:
                raise UserError(f"{TRIAL}: a single step costs {step:.4g} {self.contest.terms.cost}, more than all may")
            changes[STEPS] = steps
        self.contest.check(changes, self.champion, TRIAL, allow_null=True)
        return self.contest.shorten(changes)

    def place(self, changes: Changes) -> dict[str, Any] | None:
        """The values of a trial that has these changes of the base, by what is drawn: of a range the nearest, and the
        first of what does not apply. None if a list does not have its value."""
        values = self.select(self.contest.flat(changes))
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
                if self.contest.terms.space.get(STEPS) == BUDGET and STEPS not in idea:
                    values[STEPS] = round(START * self.usual[STEPS])
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

    def propose(self, past: Sequence[Trial], running: Sequence[Changes], seed: int) -> Changes:
        """The changes of the base for the next trial, away from those ``running``. Raises UserError if hardly any
        proposal may be tried."""
        from optuna import create_study, exceptions, logging, samplers

        logging.set_verbosity(logging.ERROR)
        warnings.filterwarnings("ignore", category=exceptions.ExperimentalWarning)
        axes = {key: _distribution(axis) for key, axis in self.axes.items()}
        study, told, reason = create_study(), [*self._tell(axes, past, running)], ""
        study.add_trials(told)
        worst = max((each.value for each in told if each.value is not None), default=0.0)
        seed, first = seed % 2**32, RANDOM if len(past) % EACH else len(past) + 1
        if find_spec("torch"):
            study.sampler = samplers.GPSampler(seed=seed, n_startup_trials=first, warn_independent_sampling=False)
        else:  # which the process needs
            study.sampler = samplers.TPESampler(seed=seed, n_startup_trials=first, multivariate=True)
        for _ in range(IMPOSSIBLE):
            trial = study.ask(axes)
            try:
                return self.make_changes({key: _round(value, self.axes[key]) for key, value in trial.params.items()})
            except UserError as error:
                reason = str(error)
                for name in told[0].constraints if told else ():
                    trial.set_constraint(name, 1.0)
                study.tell(trial, worst)  # or the same would be proposed again
        raise UserError(f"{self.contest.path}: space: {IMPOSSIBLE} proposals in a row may not be tried: {reason}")

    def _tell(self, axes: dict[str, Any], past: Sequence[Trial], running: Sequence[Changes]) -> Iterator[Any]:
        """The trials within the space, as Optuna's, of which ``axes`` are the distributions. Scores span orders of
        magnitude, so their logarithms are modelled where all are positive; one that diverged counts as the worst."""
        from optuna.trial import TrialState, create_trial

        usual = trials.find_usual(past, self.champion)
        judged = [trials.judge(self.contest, [trial], usual) for trial in past]
        losses = [one.loss for one in judged if math.isfinite(one.loss)]
        shape, worst = math.log if losses and min(losses) > 0 else float, max(losses, default=1.0)
        excesses = [one.excess for one in judged if 0 < one.excess < math.inf]
        usual_excess, largest = median(excesses or [1.0]), max(excesses, default=1.0)
        is_limited = any(one.excess > 0 for one in judged)
        for trial, one in zip(past, judged, strict=True):
            if values := self.place(trial.changes):
                limits = {"excess": math.log1p(min(one.excess, largest) / usual_excess)} if is_limited else {}
                value = shape(min(one.loss, worst))
                yield create_trial(params=values, distributions=axes, value=value, constraints=limits)
        for changes in running:
            if values := self.place(changes):
                yield create_trial(state=TrialState.RUNNING, params=values, distributions=axes)


def list_ideas(contest: Contest) -> Iterator[Changes]:
    """Where a search begins: the ideas of the ladder's file, and the rungs of all ladders that stand."""
    yield from contest.terms.model_dump(mode="json")["ideas"]
    for path in sorted(LADDERS.glob("*.yaml")):
        with suppress(UserError):  # what is wrong with another ladder is no fault of this one
            other = climb.read(climb.load(path))
            yield from (rung.whole for rung in reversed(other.rungs))


def _round(value: Any, axis: Axis) -> Any:
    """A value of a range as a person would write it."""
    return float(f"{value:.3g}") if isinstance(axis, Range) and isinstance(value, float) else value


def _distribution(axis: Axis) -> Any:
    from optuna import distributions

    if not isinstance(axis, Range):
        return distributions.CategoricalDistribution(axis)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return distributions.IntDistribution(axis.low, axis.high, log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
