"""What to try next in a ladder's space: Optuna proposes.

Its tree-structured Parzen estimator (Bergstra et al. 2011) draws all keys together (``multivariate``), and the
hyperparameters of a variant only where that is chosen (``group``). Each proposal is made from the trials alone, so
nothing needs to be kept but their file, and several processes may search at the same time.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.ladder import trials
from ddpm.ladder.space import Space
from ddpm.ladder.terms import Axis, Changes, Range
from ddpm.ladder.trials import Trial

if TYPE_CHECKING:
    import optuna

RANDOM = 12  # trials before the estimator proposes
IMPOSSIBLE = 200  # proposals in a row that may not be tried


def propose(space: Space, past: Sequence[Trial], running: Sequence[Changes]) -> Changes:
    """The changes of the base for the next trial. Raises UserError if hardly any proposal may be tried."""
    told, reason = study(space, past), ""
    import optuna

    for changes in running:  # so that the next is not one of them again
        told.add_trial(_told(space, space.place(changes, space.contest.cost(changes)), optuna.trial.TrialState.RUNNING))
    for _ in range(IMPOSSIBLE):
        trial = told.ask()
        try:
            return space.draw(lambda key, axis, trial=trial: _suggest(trial, key, axis))  # type: ignore[misc]
        except UserError as error:
            reason = str(error)
            told.tell(trial, state=optuna.trial.TrialState.FAIL)
    raise UserError(f"{space.contest.path}: space: {IMPOSSIBLE} proposals in a row may not be tried: {reason}")


def importances(space: Space, past: Sequence[Trial]) -> dict[str, float]:
    """How much of the trials' ranks each key explains, the most first (functional ANOVA, Hutter et al. 2014); of keys
    that all trials have."""
    import optuna

    told = study(space, past, ranks=True)
    try:
        return dict(
            optuna.importance.get_param_importances(told, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        )
    except (RuntimeError, ValueError):  # too few trials, or all alike
        return {}


def study(space: Space, past: Sequence[Trial], ranks: bool = False) -> optuna.Study:
    """Optuna's view of the trials. Raises UserError without Optuna."""
    try:
        import optuna
    except ImportError as error:
        raise UserError("a search needs Optuna, which is not installed: `pip install optuna`") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, constant_liar=True, n_startup_trials=RANDOM)
    told = optuna.create_study(direction="minimize", sampler=sampler)
    usual = trials.means([trial for trial in past if trial.key == files.digest(space.least(space.champion))])
    judged = [trials.judge(space.contest, [trial], usual) for trial in past]
    losses = [trials.loss(space.contest, one) for one in judged]
    for trial, one, loss in zip(past, judged, losses, strict=True):
        value = float(sum(other < loss for other in losses)) if ranks else loss
        placed = space.place(trial.changes, trial.cost)
        told.add_trial(_told(space, placed, optuna.trial.TrialState.COMPLETE, value, one.excess))
    return told


def _told(
    space: Space,
    placed: dict[str, Any],
    state: optuna.trial.TrialState,
    value: float | None = None,
    excess: Sequence[float] = (),
) -> optuna.trial.FrozenTrial:
    import optuna

    distributions = {key: _distribution(space.axes[key]) for key in placed}
    return optuna.trial.create_trial(
        state=state,
        params={key: _coded(space.axes[key], value) for key, value in placed.items()},
        distributions=distributions,
        value=value,
        constraints={str(number): by for number, by in enumerate(excess)},
    )


def _suggest(trial: optuna.Trial, key: str, axis: Axis) -> Any:
    value = trial._suggest(key, _distribution(axis))
    if not isinstance(axis, Range):
        return json.loads(value)
    return value if isinstance(value, int) else float(f"{value:.3g}")  # as a person would write it


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    import optuna

    if not isinstance(axis, Range):
        return optuna.distributions.CategoricalDistribution([json.dumps(value) for value in axis])
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return optuna.distributions.IntDistribution(axis.low, axis.high, log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _coded(axis: Axis, value: Any) -> Any:
    return value if isinstance(axis, Range) else json.dumps(value)
