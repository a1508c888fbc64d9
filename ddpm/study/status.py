"""The state of a study: which experiments are done, running, failed or missing, what is next and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ddpm.base.progress import duration
from ddpm.params.config import Config
from ddpm.report.blocks import Chapter, Note, Table
from ddpm.runs.alike import grouped
from ddpm.study import judging
from ddpm.study.experiments import LOGS
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment, Kind, Study

State = Literal["done", "running", "failed", "missing"]
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
TITLES: Mapping[Kind, str] = {"verdict": "", "tuning": ", tuning"}
EFFECTS = (1.0, 1.5, 2.0)  # in standard deviations of the paired differences


@dataclass(frozen=True)
class Row:
    """An experiment. line: its number for ``--line``. reason: why it failed."""

    line: int
    name: str
    arm: str
    kind: Kind
    state: State
    reason: str | None


@dataclass(frozen=True)
class Status:
    """plan: its hash. next_look: of the experiments that are ``left`` to run next, in seeds; None for tuning. open: the
    arms that need more seeds. outcomes: of the primary metric, by arm. seconds_each: of an experiment, None if not
    known. slots: how many run at a time."""

    plan: str
    commit: str
    open: Sequence[str]
    outcomes: Mapping[str, str]
    next_look: int | None
    left: Sequence[str]
    seconds_each: float | None
    slots: int
    experiments: Sequence[Row]

    def time(self, count: int) -> str:
        """How long that many experiments take."""
        if self.seconds_each is None:
            return "not known yet"
        return f"{duration(self.seconds_each * count / self.slots)} on {self.slots} slots"


def of(ledger: Ledger, at_once: int, seconds: float | None = None) -> Status:
    """The status now, from files and locks. seconds: of one experiment, until one is finished. Raises UserError like
    ``judging.judge``."""
    judgement = judging.judge(ledger)
    look, left = judging.missing(ledger, judgement)
    return Status(
        plan=ledger.study.hash,
        commit=ledger.experiments.commit,
        open=judgement.open,
        outcomes={one.arm: one.outcome for one in judgement.verdicts if one.metric == judgement.primary},
        next_look=look,
        left=[one.name for one in left],
        seconds_each=ledger.seconds or seconds,
        slots=at_once,
        experiments=[
            Row(line, one.name, one.arm, one.kind, *_state(ledger, one))
            for line, one in enumerate(ledger.study.lines(), 1)
        ],
    )


def _state(ledger: Ledger, experiment: Experiment) -> tuple[State, str | None]:
    """The state of an experiment, and why it failed."""
    if experiment.name in ledger.records:
        return "done", None
    if reason := ledger.refused.get(experiment.name):
        return "failed", reason
    if ledger.experiments.is_running(experiment.name):
        return "running", None
    reason = ledger.experiments.failure(experiment.name)
    return "failed" if reason else "missing", reason


def pilot(config: Config) -> float:
    """The seconds of one experiment by a few steps of its training, sampling and scoring, without what it takes to
    prepare the images, which experiments have in common."""
    from ddpm.tools import forecast

    stages = forecast.seconds(config, forecast.measure(config), forecast.train_images(config))
    return sum(seconds for stage, seconds in stages.items() if stage not in forecast.SHARED)


def chapters(status: Status, study: Study) -> list[Chapter]:
    """The arms with a sign per seed, the looks with their cost and power, and what is next."""
    counts, count = Counter(row.state for row in status.experiments), len(status.left)
    aim = judging.aim(status.next_look, count)
    above = [
        f"{study.name}: {study.plan.question}",
        f"primary metric {study.plan.primary}; code of commit {status.commit[:10]}; plan {status.plan[:12]}",
    ]
    below = [
        f"{', '.join(f'{sign} {counts[state]} {state}' for state, sign in SIGNS.items())}; logs in {LOGS / study.name}",
        "power: the chance of a verdict by that look, at a true difference of so many sd, standard deviations of the "
        "paired differences",
        f"{aim}: {status.time(count)}" if count else "complete: `ddpm study verdict` prints the verdict",
        *(f"failed: {row.reason}" for row in status.experiments if row.reason),
    ]
    return [Chapter("", [*map(Note, above), _arms(status), _looks(status, study), *map(Note, below)])]


def _arms(status: Status) -> Table:
    """For each arm a sign per seed, how many are done, and its outcome by the primary metric; other rows for its runs
    for tuning."""
    rows = []
    for (arm, kind), group in grouped(status.experiments, lambda row: (row.arm, row.kind)).items():
        signs = "".join(SIGNS[row.state] for row in group)
        outcome = status.outcomes.get(arm, "") if kind == "verdict" else ""
        rows.append([f"{arm}{TITLES[kind]}", signs, str(signs.count(SIGNS["done"])), outcome])
    return Table(["arm", "seeds", "done", "verdict"], rows, "", (0, 1, 3))


def _looks(status: Status, study: Study) -> Table:
    """For tuning and each look: its numbers for ``--line``, what is missing up to it, its time and power."""
    lines = {one.name: line for line, one in enumerate(study.lines(), 1)}
    done = {row.name for row in status.experiments if row.state == "done"}
    powers = [{f"{look} seeds": chance for look, chance in judging.power(study, effect).items()} for effect in EFFECTS]
    groups = {"tuning": study.experiments(kind="tuning")}
    groups |= {f"{look} seeds": study.experiments(look) for look in study.plan.looks}
    rows = []
    for name, planned in groups.items():
        if planned:
            missing = len([one for one in planned if one.name not in done])
            chances = [f"{power[name]:.2f}" if name in power else "-" for power in powers]
            span = f"{lines[planned[0].name]}-{lines[planned[-1].name]}"
            rows.append([name, span, str(len(planned)), str(missing), status.time(missing), *chances])
    heads = ["look", "lines", "experiments", "missing", "time", *(f"power, {effect:g} sd" for effect in EFFECTS)]
    return Table(heads, rows)
