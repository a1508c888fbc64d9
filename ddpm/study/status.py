"""The state of a study: which experiments are done, running, failed or missing, what is next and how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ddpm.base.files import read_json
from ddpm.base.progress import duration
from ddpm.params.config import Config
from ddpm.report.blocks import Chapter, Note, Table
from ddpm.runs.alike import grouped
from ddpm.study import judging, slots
from ddpm.study.experiments import Experiment, Kind
from ddpm.study.ledger import Ledger
from ddpm.verdicts.comparison import Judgement

State = Literal["done", "running", "failed", "missing"]
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
LEGEND = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())
TITLES: Mapping[Kind, str] = {"verdict": "", "tuning": ", tuning", "best": ", at other values"}
EFFECTS = (1.0, 1.5, 2.0)  # in standard deviations of the paired differences


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
    seconds: float | None
    slots: int


def of(ledger: Ledger, at_once: int, seconds: float | None = None) -> Status:
    """The status now, from files and locks. seconds: of one experiment, until one is finished. Raises UserError like
    ``judging.judge``."""
    judgement = judging.judge(ledger)
    look, left = judging.missing(ledger, judgement)
    wanted = {experiment.name for experiment in left} | ledger.records.keys() | ledger.refused.keys()
    rows = []
    for number, experiment in enumerate(ledger.study.lines(), 1):
        name = experiment.name
        failure, reason = slots.failure(ledger.study, name), ledger.refused.get(name)
        state: State = "done" if name in ledger.records else "failed" if reason else "missing"
        if state == "missing" and slots.held(ledger.lock(name)):
            state = "running"
        elif state == "missing" and failure.exists():
            state, reason = "failed", str(read_json(failure))
        if experiment.kind != "best" or name in wanted:
            rows.append(Row(number, experiment, state, reason))
    return Status(ledger, judgement, rows, look, left, ledger.seconds or seconds, at_once)


def pilot(config: Config) -> float:
    """The seconds of one experiment by a few steps of its training, sampling and scoring, without what it takes to
    prepare the images, which experiments have in common."""
    from ddpm.tools import forecast

    stages = forecast.seconds(config, forecast.measure(config), forecast.train_images(config))
    return sum(seconds for stage, seconds in stages.items() if stage not in forecast.SHARED)


def chapters(status: Status) -> list[Chapter]:
    """The arms with a sign per seed, the looks with their cost and power, and what is next."""
    ledger, study = status.ledger, status.ledger.study
    counts = Counter(row.state for row in status.rows)
    next_step = "complete: `ddpm study verdict` prints the verdict"
    if status.left:
        next_step = f"{len(status.left)} experiments {judging.aim(status.look)}: {_time(status, len(status.left))}"
    below = [
        f"({LEGEND}) {', '.join(f'{counts[state]} {state}' for state in SIGNS)}; logs in {slots.state(study)}",
        "power: the chance of a verdict by that look, at a true difference of so many sd, standard deviations of the "
        "paired differences",
        next_step,
        *(f"failed: {row.reason}" for row in status.rows if row.reason),
    ]
    title = f"{study.name}: {study.plan.question}"
    about = f"primary metric {study.plan.primary}; code of commit {ledger.commit[:10]}; plan {study.hash[:12]}"
    return [Chapter("", [Note(title), Note(about), _arms(status), _looks(status), *map(Note, below)])]


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
    """For tuning and each look: its numbers for ``--line``, what is missing up to it, its time and power; and what
    ``claim: best`` may need at most."""
    study, none = status.ledger.study, ["-"] * len(EFFECTS)
    tuning, others, rows = study.tuning(), study.alternatives(), []

    def add(name: str, first: int, planned: Sequence[Experiment], chances: Sequence[str]) -> None:
        missing = len(status.ledger.missing(planned))
        lines = f"{first + 1}-{first + len(planned)}"
        rows.append([name, lines, str(len(planned)), str(missing), _time(status, missing), *chances])

    if tuning:
        add("tuning", 0, tuning, none)
    for look, *chances in zip(study.plan.looks, *(judging.power(study, effect) for effect in EFFECTS), strict=True):
        add(f"{look} seeds", len(tuning), study.experiments(look), [f"{chance:.2f}" for chance in chances])
    if others:
        add("best, at most", len(study.lines()) - len(others), others, none)
    heads = ["look", "lines", "experiments", "missing", "time", *(f"power, {effect:g} sd" for effect in EFFECTS)]
    return Table(heads, rows)


def _time(status: Status, count: int) -> str:
    """How long that many experiments take."""
    if status.seconds is None:
        return "not known yet"
    return f"{duration(status.seconds * count / status.slots)} on {status.slots} slots"


def to_dict(status: Status) -> dict[str, Any]:
    """The status for programs, as JSON."""
    return {
        "plan": status.ledger.study.hash,
        "commit": status.ledger.commit,
        "open": list(status.judgement.open),
        "next_look": status.look,
        "left": [experiment.name for experiment in status.left],
        "seconds_each": status.seconds,
        "slots": status.slots,
        "experiments": [
            {"line": row.line, "name": row.experiment.name, "state": row.state, "reason": row.reason}
            for row in status.rows
        ],
    }
