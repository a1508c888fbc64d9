"""A search's trials for Optuna's dashboard: each trial's score, recipe and eyes, and which keys explain the scores.

`python examples/optuna_dashboard.py NAME` reads ladders/NAME/trials.jsonl and prints the command that shows it; `pip
install optuna-dashboard` installs that. Scores are those of the trials, not what a proof measured.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from ddpm.base.errors import UserError, exit_code
from ddpm.ladder import climb, trials
from ddpm.ladder.axes import Axis, Range
from ddpm.ladder.space import Space
from ddpm.ladder.terms import LADDERS

FOLDER = Path(".ddpm/optuna")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a ladder with trials")
    name = parser.parse_args(argv).name
    contest = climb.load(LADDERS / f"{name}.yaml")
    space = Space(contest, {})
    if not (past := trials.read(contest)):
        raise UserError(f"{contest.folder}: no trials yet; `ddpm ladder search {name} --trials 8` makes some")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.journal"
    path.unlink(missing_ok=True)  # it follows from the trials
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    direction = StudyDirection.MINIMIZE if contest.gain(1.0) < 0 else StudyDirection.MAXIMIZE
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=f"{name}: {contest.terms.primary}",
        direction=direction,
    )
    rows = [contest.flat(trial.changes) for trial in past]  # which lack the keys of variants that are not chosen
    axes = {key: _distribution(axis, [row.get(key) for row in rows]) for key, axis in space.axes.items()}
    for trial, row in zip(past, rows, strict=True):
        params = {key: row.get(key) for key in axes if key in row or isinstance(axes[key], CategoricalDistribution)}
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE if trial.score is not None else TrialState.FAIL,
                value=trial.score,
                params=params,
                distributions={key: axes[key] for key in params},
                user_attrs={
                    "recipe": space.describe(trial.changes), "seed": trial.seed, "cost": trial.cost, **trial.eyes
                },
            )
        )  # fmt: skip
    print(f"optuna-dashboard --host 127.0.0.1 {path}    # {len(past)} trials of {name}")


def _distribution(axis: Axis, values: list[Any]) -> BaseDistribution:
    """What the trials have of a key: the champion's value need not be one that the space draws."""
    if not isinstance(axis, Range):
        return CategoricalDistribution([*dict.fromkeys([*axis, *values])])
    numbers = [float(value) for value in values if value is not None]
    return FloatDistribution(min([axis.low, *numbers]), max([axis.high, *numbers]), log=axis.log)


if __name__ == "__main__":
    sys.exit(exit_code(main))
