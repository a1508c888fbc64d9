"""What to try next in a ladder's space: Optuna proposes.

After RANDOM trials, a Gaussian process of the scores and of what breaks guards (GPSampler) draws all keys together.
Each fifth trial stays random, since the process rarely tries two changes together of which each does harm alone. The
hyperparameters of a variant are part of it, at their first value where another variant is chosen. A proposal follows
from the trials and a seed, so nothing needs to be kept but the file of trials, and several processes may search at the
same time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Any

from ddpm.base.errors import UserError
from ddpm.ladder import trials
from ddpm.ladder.axes import Axis, Range
from ddpm.ladder.space import Space
from ddpm.ladder.terms import Changes
from ddpm.ladder.trials import Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RANDOM, EACH = 12, 5  # trials before the Gaussian process proposes; after them, each of that number is random
IMPOSSIBLE = 100  # proposals in a row that may not be tried


def propose(space: Space, past: Sequence[Trial], running: Sequence[Changes], seed: int) -> Changes:
    """The changes of the base for the next trial, away from those ``running``. Raises UserError if hardly any proposal
    may be tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    axes = {key: _distribution(axis) for key, axis in space.axes.items()}
    study, told, reason = optuna.create_study(), [*_tell(space, axes, past, running)], ""
    study.add_trials(told)
    worst = max((each.value for each in told if each.value is not None), default=0.0)
    seed, first = seed % 2**32, RANDOM if len(past) % EACH else len(past) + 1
    if find_spec("torch"):
        study.sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=first, warn_independent_sampling=False)
    else:  # which the process needs
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=first, multivariate=True)
    for _ in range(IMPOSSIBLE):
        trial = study.ask(axes)
        try:
            return space.make_changes({key: _round(value, space.axes[key]) for key, value in trial.params.items()})
        except UserError as error:
            reason = str(error)
            for name in told[0].constraints if told else ():
                trial.set_constraint(name, 1.0)
            study.tell(trial, worst)  # or the same would be proposed again
    raise UserError(f"{space.contest.path}: space: {IMPOSSIBLE} proposals in a row may not be tried: {reason}")


def _tell(
    space: Space, axes: Mapping[str, BaseDistribution], past: Sequence[Trial], running: Sequence[Changes]
) -> Iterator[FrozenTrial]:
    """The trials within the space, for Optuna. Scores span orders of magnitude, so their logarithms are modelled where
    all are positive; one that diverged counts as the worst."""
    from optuna.trial import TrialState, create_trial

    usual = trials.find_usual(past, space.champion)
    judged = [trials.judge(space.contest, [trial], usual) for trial in past]
    losses = [one.loss for one in judged if math.isfinite(one.loss)]
    shape, worst = math.log if losses and min(losses) > 0 else float, max(losses, default=1.0)
    excesses = [one.excess for one in judged if 0 < one.excess < math.inf]
    usual_excess, largest = median(excesses or [1.0]), max(excesses, default=1.0)
    is_limited = any(one.excess > 0 for one in judged)
    for trial, one in zip(past, judged, strict=True):
        if values := space.place(trial.changes, trial.cost):
            limits = {"excess": math.log1p(min(one.excess, largest) / usual_excess)} if is_limited else {}
            value = shape(min(one.loss, worst))
            yield create_trial(params=values, distributions=axes, value=value, constraints=limits)
    for changes in running:
        if values := space.place(changes, space.contest.cost(changes)):
            yield create_trial(state=TrialState.RUNNING, params=values, distributions=axes)


def _round(value: Any, axis: Axis) -> Any:
    """A value of a range as a person would write it."""
    return float(f"{value:.3g}") if isinstance(axis, Range) and isinstance(value, float) else value


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna import distributions

    if not isinstance(axis, Range):
        return distributions.CategoricalDistribution(axis)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return distributions.IntDistribution(axis.low, axis.high, log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
