"""The state of a study: which experiments are done, running, failed or missing, and how long the rest takes. While it
runs: one live table on a terminal, plain lines elsewhere.

It reads names and messages of commits but no results: a thousand finished runs take a second.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from tabulate import tabulate

from ddpm.base.errors import printable
from ddpm.base.files import read_json, write_json
from ddpm.base.progress import duration
from ddpm.compare import statistics
from ddpm.compare.runs import grouped
from ddpm.pictures.plots import OUTCOMES
from ddpm.study import results, slots
from ddpm.study.plan import Experiment, Study

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
    """states: by experiment name, of all that are planned or done. open: the variants not decided at the last look,
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
            planned = [each for each in self.study.experiments(look) if each.variant in self.open]
            others = self.study.alternatives(look)
            planned += [each for each in others if (each.variant, each.alternative) in self.alternatives]
            if left := [each for each in planned if self.states[each.name] != "done"]:
                return look, left
        return None, []

    def left(self, at_once: int) -> float | None:
        """Seconds that ``wanted`` takes; None if no experiment has been measured."""
        return None if self.seconds is None else self.seconds * len(self.wanted()[1]) / at_once


def of(ledger: results.Ledger) -> Status:
    """The status now, from files and locks."""
    study, done = ledger.study, ledger.done
    failures = results.failures(study) | ledger.damaged
    running = {path.stem for path in results.state(study).glob("*.lock") if slots.held(path)}
    note = results.state(study) / "look.json"
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
        if each.alternative is None or each.name in done or (each.variant, each.alternative) in alternatives
    }
    failed = {name: reason for name, reason in failures.items() if states.get(name) == "failed"}
    return Status(study, ledger.commit, states, failed, still, ledger.seconds, outcomes, alternatives)


def note_look(
    study: Study, still: Iterable[str], outcomes: Mapping[str, str], alternatives: Iterable[tuple[str, str, int]]
) -> None:
    """Record which variants are still open, the outcomes in the primary metric by variant, and
    ``Findings.alternatives``."""
    look = {"plan": study.hash, "open": list(still), "outcomes": dict(outcomes), "alternatives": list(alternatives)}
    write_json(results.state(study) / "look.json", look)


def text(found: Status, at_once: int) -> str:
    """For a terminal: a sign per seed, in groups that end at a look, and what is left."""
    look, left = found.wanted()
    counts = Counter(found.states.values())
    lines = [
        f"{found.study.name}: {found.study.plan.question}",
        "",
        tabulate(rows(found), ["variant", "seeds", "done", ""], tablefmt="plain", disable_numparse=True),
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
    """For each variant: its name, a sign per seed, how many are done, and its outcome if it is decided; a row before it
    for each if they are tuned."""
    plan, decided = found.study.plan, found.study.params.keys() - set(found.open)
    before_a_look = {plan.first_seed + look - 1 for look in plan.looks[:-1]}

    def title(each: Experiment) -> str:
        if each.alternative is not None:
            return f"{each.variant}, value {each.alternative + 1}"
        return each.variant + ("" if each.tried is None else ", tuning")

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
                **{key: getattr(each, key) for key in ("name", "variant", "seed", "tried")},
                "state": found.states[each.name],
                "reason": found.failures.get(each.name),
            }
            for number, each in enumerate(found.study.lines(), 1)
            if each.name in found.states
        ],
    }


@contextmanager
def shown(ledger: results.Ledger, at_once: int, plain: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line of progress. plain: print lines to stderr, because stdout is for programs."""
    if plain or not sys.stdout.isatty():
        yield lambda line: print(line, file=sys.stderr if plain else sys.stdout, flush=True)
        return
    from rich.live import Live

    drawn = partial(_board, ledger, at_once, time.monotonic())
    with Live(get_renderable=drawn, refresh_per_second=REFRESH) as live:
        yield lambda line: live.console.print(line, highlight=False, markup=False)


def _board(ledger: results.Ledger, at_once: int, begun: float) -> Any:
    """The live table, drawn from git and the logs. begun: when the study was started, by the monotonic clock."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = of(ledger)
    table = Table("variant", "seeds", "done", f"{found.study.plan.primary}", "from the baseline", box=None)
    for variant, signs, done, decided in rows(found):
        line = Text.assemble(*((sign, STYLES[sign]) for sign in signs))
        table.add_row(variant, line, done, *_estimate(ledger, variant), Text(decided, STYLES.get(decided, "")))
    look, left = found.wanted()
    what = ahead(look, len(left)) if left else "complete"
    speed = f", {duration(found.seconds)} each on {at_once} slots" if found.seconds else ""
    rest = time_left(found.seconds, len(left), at_once)
    running = [name for name, state in found.states.items() if state == "running"]
    below = (Text(_progress(found.study, name), "dim", no_wrap=True) for name in running)
    return Group(table, Text(f"{what}{speed}{rest}; running {duration(time.monotonic() - begun)}"), *below)


def _estimate(ledger: results.Ledger, variant: str) -> tuple[str, str]:
    """The primary metric's mean, and the mean and interval of its differences from the baseline, over the runs read;
    nothing for tuning."""
    study, metric = ledger.study, ledger.study.plan.primary
    if variant not in study.params:
        return "", ""
    arms: dict[str, dict[int, float]] = {name: {} for name in study.params}
    for each in study.experiments():
        if run := ledger.runs.get(each.name):
            arms[each.variant][each.seed] = run.scores[metric]
    import numpy as np

    own, base = arms[variant], arms[study.baseline]
    mean = f"{np.mean(list(own.values())):.4g}" if own else "-"
    both = np.array([own[seed] - base[seed] for seed in own if seed in base])
    if variant == study.baseline or len(both) < 2:
        return mean, "-"
    test = statistics.t_test(both, 0.0, study.settings.compare.confidence)
    return mean, f"{test.mean:+.3g} ({test.low:+.3g} to {test.high:+.3g})"


def _progress(study: Study, name: str) -> str:
    """How far an experiment is: its stage, and the last percentage that the stage reported."""
    path = results.state(study) / f"{name}.log"
    text = ""
    if path.exists():
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - TAIL))
            text = log.read().decode(errors="replace")
    stage, _, after = text.rpartition("Running stage '")[2].partition("'")
    percent = re.findall(r"(\d+%)\|", after)
    return f"{name}: {stage if after else 'begins'} {percent[-1] if percent else ''}"
