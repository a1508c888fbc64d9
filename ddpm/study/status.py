"""The state of a study: which experiments are done, running, failed or missing, what is next and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ddpm.base.files import read_json
from ddpm.base.progress import duration
from ddpm.params.config import Config
from ddpm.report.blocks import Block, Chapter, Note, Table
from ddpm.runs.alike import grouped
from ddpm.study import judging, slots
from ddpm.study.experiments import Experiment, Kind
from ddpm.study.judging import Power
from ddpm.study.ledger import Ledger
from ddpm.verdicts.comparison import Judgement

State = Literal["done", "running", "failed", "missing"]
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
LEGEND = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())
TITLES: Mapping[Kind, str] = {"verdict": "", "tuning": ", tuning", "best": ", at other values"}


class Row(NamedTuple):
    """An experiment. line: its number for ``--line``. reason: why it failed."""

    line: int
    experiment: Experiment
    state: State
    reason: str | None


@dataclass(frozen=True)
class Status:
    """look: of the experiments that are left to run next, in seeds; None for tuning. seconds: of one experiment, None
    if not known. slots: how many run at a time."""

    ledger: Ledger
    judgement: Judgement
    rows: Sequence[Row]
    look: int | None
    left: Sequence[Experiment]
    power: Sequence[Power]
    seconds: float | None
    slots: int


def of(ledger: Ledger, at_once: int, seconds: float | None = None) -> Status:
    """The status now, from files and locks. seconds: of one experiment, until one is finished. Raises UserError like
    ``judging.judge``."""
    judgement = judging.judge(ledger)
    look, left = judging.missing(ledger, judgement)
    study = ledger.study
    wanted = {experiment.name for experiment in left} | ledger.records.keys() | ledger.refused.keys()
    rows = []
    for number, experiment in enumerate(study.lines(), 1):
        name = experiment.name
        failure, reason = slots.failure(study, name), ledger.refused.get(name)
        state: State = "done" if name in ledger.records else "failed" if reason else "missing"
        if state == "missing":
            if slots.held(ledger.lock(name)):
                state = "running"
            elif failure.exists():
                state, reason = "failed", str(read_json(failure))
        if experiment.kind != "best" or name in wanted:
            rows.append(Row(number, experiment, state, reason))
    known = seconds if ledger.seconds is None else ledger.seconds
    return Status(ledger, judgement, rows, look, left, judging.power(study), known, at_once)


def pilot(config: Config) -> float:
    """The seconds of one experiment by a few steps of its training, sampling and scoring, without what it takes to
    prepare the images, which experiments have in common."""
    from ddpm.tools import forecast

    stages = forecast.seconds(config, forecast.measure(config), forecast.train_images(config))
    return sum(took for stage, took in stages.items() if stage not in forecast.SHARED)


def chapters(status: Status) -> list[Chapter]:
    """The arms with a sign per seed, the looks with their cost and power, and what is next."""
    ledger, study = status.ledger, status.ledger.study
    counts = Counter(row.state for row in status.rows)
    next_step = "complete: `ddpm study verdict` prints the verdict"
    if status.left:
        next_step = f"{len(status.left)} experiments {judging.aim(status.look)}: {_time(status, len(status.left))}"
    above: list[Block] = [
        Note(f"{study.name}: {study.plan.question}"),
        Note(f"primary metric {study.plan.primary}; code of commit {ledger.commit[:10]}; plan {study.hash[:12]}"),
    ]
    below = [
        f"({LEGEND}) {', '.join(f'{counts[state]} {state}' for state in SIGNS)}; logs in {slots.state(study)}",
        "power: the chance of a verdict by that look, at a true difference of so many sd, standard deviations of the "
        "paired differences",
        f"one experiment: {'not known yet' if status.seconds is None else f'about {duration(status.seconds)}'}",
        next_step,
        *(f"failed: {row.reason}" for row in status.rows if row.reason),
    ]
    return [Chapter("", [*above, _arms(status), _looks(status), *map(Note, below)])]


def _arms(status: Status) -> Table:
    """For each arm a sign per seed, how many are done, and its outcome by the primary metric; other rows for its runs
    for tuning and at other values."""
    judgement = status.judgement
    outcomes = {row.arm: row.outcome for row in judgement.verdicts if row.metric == judgement.primary}
    rows = []
    for (arm, kind), group in grouped(status.rows, lambda row: (row.experiment.arm, row.experiment.kind)).items():
        signs = "".join(SIGNS[row.state] for row in group)
        outcome = outcomes.get(arm, "") if kind == "verdict" else ""
        rows.append([f"{arm}{TITLES[kind]}", signs, str(signs.count(SIGNS["done"])), outcome])
    return Table(["arm", "seeds", "done", "verdict"], rows, "", (0, 1, 3))


def _looks(status: Status) -> Table:
    """For tuning and each look: its numbers for ``--line``, what is missing up to it, its time and power."""
    study, ledger = status.ledger.study, status.ledger
    parts = [("tuning", 0, study.tuning(), ["-"] * len(status.power))]
    before = len(parts[0][2])
    for look in study.plan.looks:
        chances = [f"{effect.decided[look]:.2f}" for effect in status.power]
        parts.append((f"{look} seeds", before, study.experiments(look), chances))
    others = study.alternatives()
    parts.append(("best, at most", len(study.lines()) - len(others), others, ["-"] * len(status.power)))
    rows = []
    for name, first, planned, chances in parts:
        if planned:
            missing = len(ledger.missing(planned))
            lines = f"{first + 1}-{first + len(planned)}"
            rows.append([name, lines, str(len(planned)), str(missing), _time(status, missing), *chances])
    heads = ["look", "lines", "experiments", "missing", "time", *(f"power, {row.effect:g} sd" for row in status.power)]
    return Table(heads, rows)


def _time(status: Status, count: int) -> str:
    """How long that many experiments take."""
    return (
        "-" if status.seconds is None else f"{duration(status.seconds * count / status.slots)} on {status.slots} slots"
    )


def to_dict(status: Status) -> dict[str, Any]:
    """The status for programs, as JSON."""
    study = status.ledger.study
    return {
        "study": study.name,
        "plan": study.hash,
        "commit": status.ledger.commit,
        "open": list(status.judgement.open),
        "next_look": status.look,
        "left": [experiment.name for experiment in status.left],
        "seconds_each": status.seconds,
        "slots": status.slots,
        "power": [effect._asdict() for effect in status.power],
        "experiments": [
            {
                "line": row.line,
                **{key: getattr(row.experiment, key) for key in ("name", "arm", "seed", "kind")},
                "state": row.state,
                "reason": row.reason,
            }
            for row in status.rows
        ],
    }
