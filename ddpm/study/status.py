"""The state of a study: which experiments are done, running, failed or missing, and how long the rest takes. While it
runs: one live table on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tabulate import tabulate

from ddpm.base.errors import printable
from ddpm.base.files import read_json, write_json
from ddpm.base.progress import duration
from ddpm.pictures.plots import OUTCOMES
from ddpm.runs.alike import grouped
from ddpm.study import slots
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.verdicts import statistics
from ddpm.verdicts.comparison import Judgement

State = Literal["done", "running", "failed", "missing"]
# a look, in seeds, or what comes before all looks; None if the study is complete
Next = int | Literal["tuning"] | None
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
LEGEND = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())
REFRESH = 0.5  # times a second
TAIL = 2**16  # bytes of a log, enough to hold what its last stage wrote
STYLES = {"#": "green", ">": "bold yellow", "!": "bold red", ".": "dim", "|": "dim", **OUTCOMES}


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
        if left := [each for each in self.study.tuning() if self.states[each.name] != "done"]:
            return "tuning", left
        for look in self.study.plan.looks:
            planned = [each for each in self.study.experiments(look) if each.arm in self.open]
            others = self.study.alternatives(look)
            planned += [each for each in others if (each.arm, each.alternative) in self.alternatives]
            if left := [each for each in planned if self.states[each.name] != "done"]:
                return look, left
        return None, []

    def left(self, at_once: int) -> float | None:
        """Seconds that ``wanted`` takes; None if no experiment has been measured."""
        return None if self.seconds is None else self.seconds * len(self.wanted()[1]) / at_once


def of(ledger: Ledger) -> Status:
    """The status now, from files and locks."""
    study, done = ledger.study, ledger.records
    failures = slots.failures(study) | ledger.refused
    running = {path.stem for path in slots.state(study).glob("*.lock") if slots.held(path)}
    note = slots.state(study) / "look.json"
    look = read_json(note) if done and note.exists() else {}
    if look.get("plan") != study.hash:
        look = {"open": study.params}
    still, outcomes = tuple(look["open"]), look.get("outcomes", {})
    alternatives = frozenset((arm, place) for _, arm, place in look.get("alternatives", ()))

    def state(name: str) -> State:
        if name in done:
            return "done"
        return "running" if name in running else "failed" if name in failures else "missing"

    states = {
        each.name: state(each.name)
        for each in study.lines()
        if each.alternative is None or each.name in done or (each.arm, each.alternative) in alternatives
    }
    failed = {name: reason for name, reason in failures.items() if states.get(name) == "failed"}
    return Status(study, ledger.commit, states, failed, still, ledger.seconds, outcomes, alternatives)


def note_look(study: Study, judgement: Judgement) -> None:
    """Record which arms are still open, the outcomes in the primary metric, and what ``claim: best`` needs."""
    outcomes = {found.arm: found.outcome for found in judgement.verdicts if found.metric == judgement.primary}
    look = {"open": judgement.open, "outcomes": outcomes, "alternatives": judgement.alternatives}
    write_json(slots.state(study) / "look.json", {"plan": study.hash, **look})


def text(found: Status, at_once: int) -> str:
    """For a terminal: a sign per seed, in groups that end at a look, and what is left."""
    look, left = found.wanted()
    counts = Counter(found.states.values())
    lines = [
        f"{found.study.name}: {found.study.plan.question}",
        "",
        tabulate(rows(found), ["arm", "seeds", "done", ""], tablefmt="plain", disable_numparse=True),
        f"({LEGEND}; | a look)",
        "",
        ", ".join(f"{counts[state]} {state}" for state in SIGNS) + f"; code of commit {found.commit[:10]}",
    ]
    if left:
        seconds = found.left(at_once)
        time = "" if seconds is None else f", about {duration(seconds)} on {at_once} slots"
        lines.append(f"{ahead(look, len(left))}{time}")
    else:
        lines.append("complete: `ddpm study run` prints the verdict")
    return "\n".join([*lines, *(f"failed: {printable(reason)}" for reason in found.failures.values())])


def ahead(look: Next, left: int) -> str:
    """How many experiments ``Status.wanted`` has, and what they are for."""
    return f"{left} experiment{'s' * (left != 1)} {aim(look)}"


def aim(look: Next) -> str:
    return "for tuning" if look == "tuning" else f"up to the look at {look} seeds"


def time_left(seconds: float | None, count: int, at_once: int) -> str:
    """How long so many experiments of ``seconds`` each take, for a line of progress; empty if it is none or not known.
    One from DVC's cache counts as long as it once took."""
    return f", about {duration(seconds * count / at_once)} left" if seconds and count else ""


def rows(found: Status) -> list[list[str]]:
    """For each arm: its name, a sign per seed, how many are done, and its outcome if it is decided; a row before it
    for each if they are tuned."""
    plan, decided = found.study.plan, found.study.params.keys() - set(found.open)
    before_a_look = {plan.first_seed + look - 1 for look in plan.looks[:-1]}

    def title(each: Experiment) -> str:
        if each.alternative is not None:
            return f"{each.arm}, value {each.alternative + 1}"
        return each.arm + ("" if each.tried is None else ", tuning")

    made = []
    for name, own in grouped((each for each in found.study.lines() if each.name in found.states), title).items():
        stops = before_a_look if name in found.study.params else ()
        signs = [SIGNS[found.states[each.name]] + "|" * (each.seed in stops) for each in own]
        done = sum(found.states[each.name] == "done" for each in own)
        made.append([name, "".join(signs), str(done), found.outcomes.get(name, "decided") if name in decided else ""])
    return made


def to_dict(found: Status, at_once: int) -> dict[str, Any]:
    """For programs."""
    look, left = found.wanted()
    return {
        "study": found.study.name,
        "plan": found.study.hash,
        "commit": found.commit,
        "open": list(found.open),
        "next_look": None if look == "tuning" else look,
        "left": [each.name for each in left],
        "seconds_left": found.left(at_once),
        "seconds_each": found.seconds,
        "slots": at_once,
        "experiments": [
            {
                "line": number,
                **{key: getattr(each, key) for key in ("name", "arm", "seed", "tried")},
                "state": found.states[each.name],
                "reason": found.failures.get(each.name),
            }
            for number, each in enumerate(found.study.lines(), 1)
            if each.name in found.states
        ],
    }


@contextmanager
def shown(ledger: Ledger, at_once: int, plain: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line of progress. plain: print lines to stderr, because stdout is for programs."""
    if plain or not sys.stdout.isatty():
        yield lambda line: print(line, file=sys.stderr if plain else sys.stdout, flush=True)
        return
    from rich.live import Live

    drawn = partial(_board, ledger, at_once, time.monotonic())
    with Live(get_renderable=drawn, refresh_per_second=REFRESH) as live:
        yield lambda line: live.console.print(line, highlight=False, markup=False)


def _board(ledger: Ledger, at_once: int, begun: float) -> Any:
    """The live table, drawn from git and the logs. begun: when the study was started, by the monotonic clock."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = of(ledger)
    table = Table("arm", "seeds", "done", f"{found.study.plan.primary}", "from the baseline", box=None)
    for arm, signs, done, decided in rows(found):
        line = Text.assemble(*((sign, STYLES[sign]) for sign in signs))
        table.add_row(arm, line, done, *_estimate(ledger, arm), Text(decided, STYLES.get(decided, "")))
    look, left = found.wanted()
    what = ahead(look, len(left)) if left else "complete"
    speed = f", {duration(found.seconds)} each on {at_once} slots" if found.seconds else ""
    rest = time_left(found.seconds, len(left), at_once)
    running = [name for name, state in found.states.items() if state == "running"]
    below = (Text(_progress(found.study, name), "dim", no_wrap=True) for name in running)
    return Group(table, Text(f"{what}{speed}{rest}; running {duration(time.monotonic() - begun)}"), *below)


def _estimate(ledger: Ledger, arm: str) -> tuple[str, str]:
    """The primary metric's mean, and the mean and interval of its differences from the baseline, over the runs read;
    nothing for tuning."""
    study, metric = ledger.study, ledger.study.plan.primary
    if arm not in study.params:
        return "", ""
    arms: dict[str, dict[int, float]] = {name: {} for name in study.params}
    for experiment in study.experiments():
        if run := ledger.records.get(experiment.name):
            arms[experiment.arm][experiment.seed] = run.scores[metric]
    import numpy as np

    own, base = arms[arm], arms[study.baseline]
    mean = f"{np.mean(list(own.values())):.4g}" if own else "-"
    both = np.array([own[seed] - base[seed] for seed in own if seed in base])
    if arm == study.baseline or len(both) < 2:
        return mean, "-"
    test = statistics.t_test(both, 0.0, study.config.compare.confidence)
    return mean, f"{test.mean:+.3g} ({test.low:+.3g} to {test.high:+.3g})"


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
    return f"{name}: {stage if after else 'begins'} {percent[-1] if percent else ''}"
