"""The state of a study: which experiments are done, running, failed or missing, what is next and how long it takes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ddpm.base.errors import printable
from ddpm.base.files import read_json, write_json
from ddpm.base.progress import duration
from ddpm.report.blocks import Block, Chapter, Note, Table
from ddpm.runs.alike import grouped
from ddpm.study import budget, slots
from ddpm.study.experiments import Experiment, Study
from ddpm.study.judging import Power
from ddpm.study.ledger import Ledger
from ddpm.study.planning import Cost
from ddpm.verdicts.comparison import Judgement

State = Literal["done", "running", "failed", "missing"]
# a look, in seeds, or what comes before all looks; None if the study is complete
Next = int | Literal["tuning"] | None
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
LEGEND = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())
TAIL = 2**16  # bytes of a log, enough to hold what its last stage wrote


@dataclass(frozen=True)
class Status:
    """states: by experiment name, of all that are planned or done. open: the arms not decided at the last look,
    including the baseline. outcomes: of the others, by the primary metric. alternatives: the arms and places in the
    grid that ``claim: best`` needs too. seconds: mean duration of an experiment, None before the first."""

    study: Study
    commit: str
    states: Mapping[str, State]
    failures: Mapping[str, str]
    open: tuple[str, ...]
    seconds: float | None
    outcomes: Mapping[str, str] = field(default_factory=dict)
    alternatives: frozenset[tuple[str, int | None]] = frozenset()

    def wanted(self) -> tuple[Next, list[Experiment]]:
        """What is next, and the experiments missing up to it: tuning, then each look, in seeds; at last None."""
        if left := self.missing(self.study.tuning()):
            return "tuning", left
        for look in self.study.plan.looks:
            planned = [experiment for experiment in self.study.experiments(look) if experiment.arm in self.open]
            others = self.study.alternatives(look)
            planned += [other for other in others if (other.arm, other.alternative) in self.alternatives]
            if left := self.missing(planned):
                return look, left
        return None, []

    def missing(self, planned: Sequence[Experiment]) -> list[Experiment]:
        """Those that are not done."""
        return [experiment for experiment in planned if self.states.get(experiment.name) != "done"]


def of(ledger: Ledger) -> Status:
    """The status now, from files and locks."""
    study, done = ledger.study, ledger.records
    failures = slots.failures(study) | ledger.refused
    running = {experiment.name for experiment in study.lines() if slots.held(ledger.lock(experiment.name))}
    note = slots.state(study) / "look.json"
    look = read_json(note) if done and note.exists() else {}
    if look.get("plan") != study.hash:
        look = {"open": study.params}
    alternatives = frozenset((arm, place) for _, arm, place in look.get("alternatives", ()))

    def state(name: str) -> State:
        if name in done:
            return "done"
        return "running" if name in running else "failed" if name in failures else "missing"

    states = {
        experiment.name: state(experiment.name)
        for experiment in study.lines()
        if experiment.alternative is None
        or experiment.name in done
        or (experiment.arm, experiment.alternative) in alternatives
    }
    failed = {name: reason for name, reason in failures.items() if states.get(name, "failed") == "failed"}
    outcomes = look.get("outcomes", {})
    return Status(study, ledger.commit, states, failed, tuple(look["open"]), ledger.seconds, outcomes, alternatives)


def note_look(study: Study, judgement: Judgement) -> None:
    """Record which arms are still open, the outcomes in the primary metric, and what ``claim: best`` needs."""
    outcomes = {row.arm: row.outcome for row in judgement.verdicts if row.metric == judgement.primary}
    look = {"open": judgement.open, "outcomes": outcomes, "alternatives": judgement.alternatives}
    write_json(slots.state(study) / "look.json", {"plan": study.hash, **look})


def chapters(status: Status, at_once: int, cost: Cost, power: Sequence[Power]) -> list[Chapter]:
    """The arms with a sign per seed, the looks with their cost and power, and what is next."""
    study, counts = status.study, Counter(status.states.values())
    look, left = status.wanted()
    next_step = "complete: `ddpm study run` prints the verdict"
    if left:
        seconds = None if cost.seconds is None else cost.seconds * len(left) / at_once
        time = "" if seconds is None else f", about {duration(seconds)} on {at_once} slots"
        next_step = f"{len(left)} experiment{'s' * (len(left) != 1)} {aim(look)}{time}"
    time_of_one = "not measured (--pilot measures it)" if cost.seconds is None else f"about {duration(cost.seconds)}"
    running = [name for name, state in status.states.items() if state == "running"]
    above: list[Block] = [
        Note(f"{study.name}: {study.plan.question}"),
        Note(f"primary metric {study.plan.primary}; code of commit {status.commit[:10]}; plan {study.hash[:12]}"),
    ]
    below = [
        f"({LEGEND}; | a look) {', '.join(f'{counts[state]} {state}' for state in SIGNS)}",
        "power: the chance of a verdict by that look, at a true difference of so many sd, standard deviations of the "
        "paired differences",
        f"one experiment: {time_of_one} ({cost.source}); {at_once} slots",
        *budget.notes(study),
        next_step,
        *(_progress(study, name) for name in running),
        *(f"failed: {reason}" for reason in status.failures.values()),
    ]
    return [Chapter("", [*above, _arms(status), _looks(status, at_once, cost, power), *map(Note, below)])]


def _arms(status: Status) -> Table:
    """For each arm a sign per seed, how many are done, and its outcome if it is decided; a row before it for each if
    they are tuned."""
    plan, decided = status.study.plan, status.study.params.keys() - set(status.open)
    before_a_look = {plan.first_seed + look - 1 for look in plan.looks[:-1]}

    def title(experiment: Experiment) -> str:
        if experiment.alternative is not None:
            return f"{experiment.arm}, value {experiment.alternative + 1}"
        return experiment.arm + ("" if experiment.tried is None else ", tuning")

    rows = []
    listed = (experiment for experiment in status.study.lines() if experiment.name in status.states)
    for name, experiments in grouped(listed, title).items():
        stops = before_a_look if name in status.study.params else ()
        signs = (SIGNS[status.states[experiment.name]] + "|" * (experiment.seed in stops) for experiment in experiments)
        done = len(experiments) - len(status.missing(experiments))
        outcome = status.outcomes.get(name, "decided") if name in decided else ""
        rows.append([name, "".join(signs), str(done), outcome])
    return Table(["arm", "seeds", "done", ""], rows, "", (0, 1, 3))


def _looks(status: Status, at_once: int, cost: Cost, power: Sequence[Power]) -> Table:
    """For tuning and each look: its numbers for ``--line``, what is missing up to it, its time and power."""
    study = status.study

    def row(name: str, first: int, experiments: Sequence[Experiment], chances: Sequence[str]) -> list[str]:
        missing = len(status.missing(experiments))
        time = "-" if cost.seconds is None else duration(cost.seconds * missing / at_once)
        lines = f"{first}-{first - 1 + len(experiments)}"
        return [name, lines, str(len(experiments)), str(missing), time, *chances]

    tuned, others, none = study.tuning(), study.alternatives(), ["-"] * len(power)
    rows = [row("tuning", 1, tuned, none)] if tuned else []
    for look in study.plan.looks:
        chances = [f"{effect.decided[look]:.2f}" for effect in power]
        rows.append(row(f"{look} seeds", len(tuned) + 1, study.experiments(look), chances))
    if others:
        rows.append(row("best, at most", len(study.lines()) - len(others) + 1, others, none))
    heads = ["look", "lines", "experiments", "missing", "time", *(f"power, {effect.effect:g} sd" for effect in power)]
    return Table(heads, rows)


def aim(look: Next) -> str:
    return "for tuning" if look == "tuning" else f"up to the look at {look} seeds"


def time_left(seconds: float | None, count: int, at_once: int) -> str:
    """How long so many experiments of ``seconds`` each take, for a line of progress; empty if it is none or not known.
    One from DVC's cache counts as long as it once took."""
    return f", about {duration(seconds * count / at_once)} left" if seconds and count else ""


def to_dict(status: Status, at_once: int, cost: Cost, power: Sequence[Power]) -> dict[str, Any]:
    """For programs."""
    look, left = status.wanted()
    return {
        "study": status.study.name,
        "plan": status.study.hash,
        "commit": status.commit,
        "open": list(status.open),
        "next_look": None if look == "tuning" else look,
        "left": [experiment.name for experiment in left],
        "seconds_each": cost.seconds,
        "slots": at_once,
        "power": [effect._asdict() for effect in power],
        "experiments": [
            {
                "line": number,
                **{key: getattr(experiment, key) for key in ("name", "arm", "seed", "tried")},
                "state": status.states[experiment.name],
                "reason": status.failures.get(experiment.name),
            }
            for number, experiment in enumerate(status.study.lines(), 1)
            if experiment.name in status.states
        ],
    }


def _progress(study: Study, name: str) -> str:
    """How far an experiment is: its stage, and the last percentage that the stage reported."""
    path = slots.state(study) / f"{name}.log"
    text = ""
    if path.exists():
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL))
            text = log.read().decode(errors="replace")
    stage, _, after = text.rpartition("Running stage '")[2].partition("'")
    percent = re.findall(r"(\d+%)\|", after)
    return printable(f"{name}: {stage if after else 'begins'} {percent[-1] if percent else ''}")
