"""The experiments of an attempt, run in slots as those of a study are. Nothing else here knows how studies run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.ladder.terms import CHALLENGER, CHAMPION, Changes, Contest
from ddpm.runs.record import Record
from ddpm.study import runner
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment, Plan, Study, changed


class Pairs(Study):
    """Both sides of an attempt. The records are in ladders/NAME/attempts/KEY/runs/."""

    @property
    def results(self) -> Path:
        return self.path.with_suffix("") / "attempts" / self.name.rpartition("-")[2]

    def lines(self) -> list[Experiment]:
        """Each side's, of a kind of its own."""
        return [one._replace(kind=CHALLENGER if one.arm == CHALLENGER else CHAMPION) for one in super().lines()]


class Runs:
    """The runs of an attempt, on consecutive seeds. arms: CHAMPION, CHALLENGER or both -> changes of the base. slots:
    experiments at a time, by default one per GPU or core.

    Raises UserError unless the ladder and the code are committed.
    """

    def __init__(
        self,
        contest: Contest,
        key: str,
        first_seed: int,
        arms: Mapping[str, Changes],
        slots: int | None = None,
    ):
        terms, path = contest.terms, str(contest.path)
        plan = Plan(
            question=terms.question,
            base=terms.base,
            arms={arm: dict(arms.get(arm, {})) for arm in (CHAMPION, CHALLENGER)},
            primary=terms.primary,
            looks=(terms.seeds.most,),
        ).model_copy(update={"first_seed": first_seed})  # above those that a file may name
        params = {arm: changed(contest.values, {**changes, "seed": first_seed}, path) for arm, changes in arms.items()}
        configs = {arm: contest.params(changes) for arm, changes in arms.items()}
        self.ledger = Ledger(Pairs(f"{contest.name}-{key}", plan, params, configs, contest.path))
        self.ledger.check_ready()
        self.experiments = self.ledger.study.lines()
        self.at_once = runner.slots(slots, self.ledger.study)

    def run(self, seeds: int, say: Callable[[str], None]) -> None:
        """Run what is missing of the first seeds. Raises UserError with the reason if one fails."""
        wanted = self.experiments[: seeds * len(self.ledger.study.params)]  # seed by seed
        going = runner.Runner(self.ledger, self.at_once, say)
        going.complete(self.ledger.missing(wanted))
        self.ledger.update()
        for reason in going.failed.values():
            raise UserError(reason)

    def scored(self, arm: str) -> Sequence[Record]:
        """The records of an arm up to the first seed that is missing."""
        records = (self.ledger.records.get(one.name) for one in self.experiments if one.arm == arm)
        return [record for record in takewhile(bool, records) if record]
