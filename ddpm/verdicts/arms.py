"""Arms with runs by training seed, and which runs of two arms are partners. Of a run only its name, seed and scores are
read."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ddpm.base.errors import UserError
from ddpm.verdicts.statistics import Array


class Pair(NamedTuple):
    """Two arms' runs, each with a seed and scores: those at the same place of ``before`` and ``after`` are partners."""

    baseline: str
    arm: str
    before: tuple[Any, ...]
    after: tuple[Any, ...]

    @property
    def runs(self) -> tuple[Any, ...]:
        return *self.before, *self.after

    def scores(self, metric: str) -> tuple[Array, ...]:
        """The scores of the baseline's runs, and of the arm's."""
        return tuple(np.array([run.scores[metric] for run in runs]) for runs in (self.before, self.after))


def subtract(before: Array, after: Array, paired: bool = True) -> Array:
    """An arm's scores minus its partners' or, of runs without, minus the mean of the baseline: (n,)."""
    return after - (before if paired and len(before) == len(after) else before.mean())


class Arm(NamedTuple):
    """One side of a comparison."""

    label: str
    values: dict[str, Any]  # its params under the keys that vary
    runs: dict[int, Any]  # by training seed


def partners(before: Arm, after: Arm) -> Pair:
    """The runs of the seeds that both arms have."""
    seeds = sorted(before.runs.keys() & after.runs.keys())
    return Pair(before.label, after.label, *(tuple(arm.runs[seed] for seed in seeds) for arm in (before, after)))


def name_alone(before: Arm, after: Arm) -> Iterator[str]:
    """A note for each arm with runs of seeds that the other does not have."""
    for arm, other in ((before, after), (after, before)):
        if alone := arm.runs.keys() - other.runs.keys():
            yield f"{arm.label}'s {name_seeds(alone)} left out, which {other.label} does not have"


def name_seeds(seeds: Iterable[int]) -> str:
    """Training seeds as text, for a message."""
    ordered = sorted(set(seeds))
    return f"{'seed' if len(ordered) == 1 else 'seeds'} {' '.join(map(str, ordered))}"


def refuse_twins(arms: Iterable[Arm], facts: Mapping[str, Callable[[Any], Hashable]]) -> None:
    """Raises UserError if two seeds of an arm agree in one of the ``facts``: they are one run, counted twice. A fact
    that is None or empty is unknown."""
    for arm in arms:
        for what, of in facts.items():
            alike: dict[Hashable, list[Any]] = {}
            for run in arm.runs.values():
                alike.setdefault(of(run), []).append(run)
            for value, twins in alike.items():
                if value and len(twins) > 1:
                    raise UserError(
                        f"{twins[0].name}, {twins[1].name}: the same {what} under "
                        f"{name_seeds(run.seed or 0 for run in twins)}: each seed must be another training, and a "
                        "program must use the seed that it is given; leave out all but one of these runs"
                    )
