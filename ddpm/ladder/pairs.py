"""The experiments of an attempt, run as those of a study are. Nothing else here knows how experiments run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import takewhile

from ddpm.base.errors import UserError
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Changes, Contest
from ddpm.runs.record import Record
from ddpm.study import revision, runner
from ddpm.study.experiments import Experiments
from ddpm.study.plan import Experiment, Point, changed


class Runs:
    """The runs of an attempt, on consecutive seeds. arms: CHAMPION, CHALLENGER or both -> changes of the base. slots:
    experiments at a time, by default one per GPU or core. commit: whose code runs, if not the one checked out.
    """

    def __init__(
        self,
        contest: Contest,
        key: str,
        first_seed: int,
        arms: Mapping[str, Changes],
        slots: int | None = None,
        commit: str | None = None,
    ):
        self.commit = commit
        path, primary, folder = contest.path, contest.terms.primary, contest.folder / "attempts" / key / "runs"
        self.experiments = Experiments(f"{contest.name}-{key}", folder, path, primary, commit or revision.head())
        sides = {
            arm: (changed(contest.values, changes, str(path)), Point({}, contest.params(changes)))
            for arm, changes in arms.items()
        }
        self.planned = [  # seed by seed
            Experiment(f"{arm}-{seed}", arm, seed, params, {}, point, CHALLENGER if arm == CHALLENGER else CHAMPION)
            for seed in range(first_seed, first_seed + contest.terms.seeds.most)
            for arm, (params, point) in sides.items()
        ]
        self.sides = tuple(sides)
        self.devices = [point.config.device for _, point in sides.values()]
        self.at_once = runner.slots(slots, self.devices)
        self.records: dict[str, Record] = {}
        self.update()

    def update(self) -> None:
        """Read the records that are new. Raises UserError if one is not what its name says."""
        for one in self.planned:
            if one.name not in self.records and self.experiments.path(one.name).exists():
                self.records[one.name] = self.experiments.read(one)

    def run(self, seeds: int, say: Callable[[str], None]) -> Generator[int]:
        """Run what is missing of the first seeds, seed by seed. Yields how many are scored, after each run.

        Raises UserError unless the ladder and the code are committed, and made the runs that are there; or with the
        reason, if one fails.
        """
        revision.check_committed([str(self.experiments.source), *(() if self.commit else revision.CODE)])
        if (first := self.planned[0]).name in self.records:
            self.experiments.refuse_other_code(first, self.records[first.name])
        missing = [one for one in self.planned[: seeds * len(self.sides)] if one.name not in self.records]
        failed: dict[str, str] = {}
        for line, _ in self.experiments.run(missing, self.at_once, runner.gpus(self.devices), failed):
            say(line)
            if failed:
                raise UserError(next(iter(failed.values())))
            self.update()
            yield min(len(self.scored(side)) for side in self.sides)

    def scored(self, arm: str) -> Sequence[Record]:
        """The records of an arm up to the first seed that is missing."""
        records = (self.records.get(one.name) for one in self.planned if one.arm == arm)
        return [record for record in takewhile(bool, records) if record]
