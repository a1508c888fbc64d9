"""What to try next in a ladder's space: Optuna proposes.

Its tree-structured Parzen estimator (Bergstra et al. 2011) draws all keys together (``multivariate``), and the
hyperparameters of a variant only where that is chosen (``group``). A proposal follows from the trials and a seed, so
nothing needs to be kept but the file of trials, and several processes may search at the same time.
"""

from __future__ import annotations

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


class Proposer:
    """Proposes trials in a space. Optuna gets each trial once: reading them again took a second after 300.

    Raises UserError without Optuna.
    """

    def __init__(self, space: Space):
        try:
            import optuna
        except ImportError as error:
            raise UserError("a search needs Optuna, which is not installed: `pip install optuna`") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.space = space
        self.axes = {key: _distribution(axis) for key, axis in space.axes.items()}
        self.champion = files.digest(space.least(space.champion))
        self.usual: dict[str, float] | None = None  # the champion's guarded metrics, by which all trials are judged
        self.seeds = set[int]()  # of the trials that the study has
        self.running = dict[int, str]()  # number of a proposal in the study -> its recipe

    def learn(self, past: Sequence[Trial]) -> None:
        """Add the trials that are new to the study, or all to a new one if the champion's guarded metrics changed."""
        import optuna

        usual = trials.means([trial for trial in past if trial.key == self.champion])
        if usual != self.usual:
            self.study = optuna.create_study(direction="minimize")
            self.usual, self.seeds, self.running = usual, set(), {}
        for trial in past:
            if trial.seed not in self.seeds:
                self.seeds.add(trial.seed)
                one = trials.judge(self.space.contest, [trial], usual)
                values = self.space.place(trial.changes, trial.cost)
                axes, excess = {key: self.axes[key] for key in values}, {"excess": one.excess}
                told = optuna.trial.create_trial(params=values, distributions=axes, value=one.loss, constraints=excess)
                self.study.add_trial(told)

    def propose(self, past: Sequence[Trial], running: Sequence[Changes], seed: int) -> Changes:
        """The changes of the base for the next trial, other ones than those ``running``. Raises UserError if hardly any
        proposal may be tried."""
        import optuna

        self.learn(past)
        failed, reason, recipes = optuna.trial.TrialState.FAIL, "", {files.digest(dict(each)) for each in running}
        for number in [number for number, recipe in self.running.items() if recipe not in recipes]:
            self.study.tell(number, state=failed)  # it came back as one of the trials, or never will
            del self.running[number]
        self.study.sampler = optuna.samplers.TPESampler(
            seed=seed % 2**32, multivariate=True, group=True, constant_liar=True, n_startup_trials=RANDOM
        )
        for _ in range(IMPOSSIBLE):
            trial = self.study.ask()
            try:
                changes = self.space.draw(lambda key, axis, trial=trial: self._suggest(trial, key, axis))  # type: ignore[misc]
            except UserError as error:
                reason = str(error)
                self.study.tell(trial, state=failed)
            else:
                self.running[trial.number] = files.digest(changes)
                return changes
        raise UserError(f"{self.space.contest.path}: space: {IMPOSSIBLE} proposals in a row may not be tried: {reason}")

    def _suggest(self, trial: optuna.Trial, key: str, axis: Axis) -> Any:
        value = trial._suggest(key, self.axes[key])
        rounded = isinstance(axis, Range) and isinstance(value, float)  # as a person would write it
        return float(f"{value:.3g}") if rounded else value

    def importances(self, past: Sequence[Trial]) -> dict[str, float]:
        """How much of the trials' ranks each key explains, the most first (functional ANOVA, Hutter et al. 2014); of
        keys that all trials have."""
        import optuna

        self.learn(past)
        values = [trial.value or 0.0 for trial in self.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])]
        try:
            return optuna.importance.get_param_importances(
                self.study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                target=lambda trial: float(sum(value < (trial.value or 0.0) for value in values)),
            )
        except (RuntimeError, ValueError):  # too few trials, or all alike
            return {}


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if not isinstance(axis, Range):
        return distributions.CategoricalDistribution(axis)
    if isinstance(axis.low, int) and isinstance(axis.high, int):
        return distributions.IntDistribution(axis.low, axis.high, log=axis.log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
