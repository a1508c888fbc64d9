"""The experiments of an attempt, run as those of a study are. Nothing else here knows how experiments run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from ddpm.base.errors import UserError
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Changes, Contest
from ddpm.runs.record import Record
from ddpm.study import revision, runner
from ddpm.study.experiments import Experiments
from ddpm.study.plan import Experiment, Point, changed


class Runs:
    """The runs of an attempt, on consecutive seeds. arms: CHAMPION, CHALLENGER or both -> changes of the base. slots:
    experiments at a time, by default one per GPU or core.

    Raises UserError unless the ladder and the code are committed, and made the runs that are there.
    """

    def __init__(
        self, contest: Contest, key: str, first_seed: int, arms: Mapping[str, Changes], slots: int | None = None
    ):
        path, primary, folder = contest.path, contest.terms.primary, contest.folder / "attempts" / key / "runs"
        self.experiments = Experiments(f"{contest.name}-{key}", folder, path, primary, revision.head())
        sides = {
            arm: (changed(contest.values, changes, str(path)), Point({}, contest.params(changes)))
            for arm, changes in arms.items()
        }
        self.planned = [  # seed by seed
            Experiment(f"{arm}-{seed}", arm, seed, params, {}, point, CHALLENGER if arm == CHALLENGER else CHAMPION)
            for seed in range(first_seed, first_seed + contest.terms.seeds.most)
            for arm, (params, point) in sides.items()
        ]
        self.sides = len(sides)
        self.devices = [point.config.device for _, point in sides.values()]
        self.at_once = runner.slots(slots, self.devices)
        revision.check_committed([str(path), *revision.CODE])
        self.update()
        for one in self.planned[:1]:
            if one.name in self.records:
                self.experiments.refuse_other_code(one, self.records[one.name])

    def update(self) -> None:
        """Read the records. Raises UserError if one is not what its name says."""
        there = (one for one in self.planned if self.experiments.path(one.name).exists())
        self.records = {one.name: self.experiments.read(one) for one in there}

    def run(self, seeds: int, say: Callable[[str], None]) -> None:
        """Run what is missing of the first seeds. Raises UserError with the reason if one fails."""
        missing = [one for one in self.planned[: seeds * self.sides] if one.name not in self.records]
        failed: dict[str, str] = {}
        self.experiments.complete(missing, self.at_once, runner.gpus(self.devices), say, failed)
        self.update()
        for reason in failed.values():
            raise UserError(reason)

    def scored(self, arm: str) -> Sequence[Record]:
        """The records of an arm up to the first seed that is missing."""
        records = (self.records.get(one.name) for one in self.planned if one.arm == arm)
        return [record for record in takewhile(bool, records) if record]
