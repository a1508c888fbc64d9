"""The experiments of an attempt, run as those of a study are. Nothing else here knows how experiments run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.ladder.terms import CHALLENGER, Changes, Contest
from ddpm.runs.record import Record
from ddpm.study import revision
from ddpm.study.experiments import Experiments
from ddpm.study.plan import Experiment, Kind


class Runs:
    """The runs of an attempt, on consecutive seeds. arms: CHAMPION, CHALLENGER or both -> changes of the base. commit:
    whose code runs; empty: none will. model: the folder that gets the challenger's first model.

    Raises UserError if a record is not what its name says.
    """

    def __init__(
        self,
        contest: Contest,
        key: str,
        first_seed: int,
        arms: Mapping[str, Changes],
        commit: str,
        model: Path | None = None,
    ):
        prefix, primary = f"{contest.name}-{key}", contest.terms.primary
        self.experiments = Experiments(prefix, contest.rows, contest.path, primary, commit)
        self.sides = {arm: contest.recipe(changes) for arm, changes in arms.items()}
        kind: Kind = "side" if CHALLENGER in arms else "verdict"  # the base alone gives the guards a mean
        self.planned = [  # seed by seed
            Experiment(
                f"{arm}-{seed}",
                arm,
                seed,
                recipe,
                kind,
                pictured=seed == first_seed,
                model=model if (arm, seed) == (CHALLENGER, first_seed) else None,
            )
            for seed in range(first_seed, first_seed + contest.terms.seeds.most)
            for arm, recipe in self.sides.items()
        ]
        self.records: dict[str, Record] = {}
        self.update()

    def update(self) -> None:
        """Read the records that are new. Raises UserError if one is not what its name says."""
        for one in self.planned:
            if one.name not in self.records and (run := self.experiments.find(one)):
                self.records[one.name] = run

    def run(self, seeds: int, slots: int | None, say: Callable[[str], None]) -> Generator[int]:
        """Run what is missing of the first seeds, seed by seed, ``slots`` at a time, by default one per GPU or core.
        Yields how many are scored, after each run.

        Raises UserError unless the ladder and the code are committed, and made the runs that are there; or with the
        reason, if one fails.
        """
        experiments = self.experiments
        code = revision.CODE if experiments.commit == revision.head() else ()
        revision.check_committed([str(experiments.source), *code])
        if made := [one for one in self.planned if one.name in self.records]:
            experiments.refuse_other_code(made[0], self.records[made[0].name])
        missing = [one for one in self.planned[: seeds * len(self.sides)] if one.name not in self.records]
        failed: dict[str, str] = {}
        for line, _ in experiments.run(missing, slots, failed):
            say(line)
            if failed:
                raise UserError(next(iter(failed.values())))
            self.update()
            yield min(len(self.leading_records(side)) for side in self.sides)

    def leading_records(self, arm: str) -> Sequence[Record]:
        """The records of an arm up to the first seed that is missing."""
        records = (self.records.get(one.name) for one in self.planned if one.arm == arm)
        return [record for record in takewhile(bool, records) if record]
