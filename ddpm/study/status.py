"""The state of a study: which experiments are done, running, failed or missing, and how long the rest takes.

It reads names and messages of commits but no results: a thousand finished runs take a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tabulate import tabulate

from ddpm.base.errors import printable
from ddpm.base.files import read_json, write_json
from ddpm.base.progress import duration
from ddpm.study import results, slots
from ddpm.study.plan import SOURCES, Experiment, Study
from ddpm.study.results import Ledger

State = Literal["done", "running", "failed", "missing"]
# a look, in seeds, or what comes before and after all looks; None if the study is complete
Next = int | Literal["tuning"] | None
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
LEGEND = ", ".join(f"{sign} {state}" for state, sign in SIGNS.items())


@dataclass(frozen=True)
class Status:
    """states: by experiment name. open: the variants not decided at the last look, including the baseline.
    seconds: mean duration of an experiment, None before the first."""

    study: Study
    commit: str
    states: Mapping[str, State]
    failures: Mapping[str, str]
    open: tuple[str, ...]
    seconds: float | None

    def wanted(self) -> tuple[Next, list[Experiment]]:
        """What is next, and the experiments missing up to it: tuning, then each look, in seeds; after the last one
        None, and the missing runs for noise."""
        if left := [each for each in self.study.tuning() if self.states[each.name] != "done"]:
            return "tuning", left
        for look in self.study.plan.looks:
            planned = [each for each in self.study.experiments(look) if each.variant in self.open]
            if left := [each for each in planned if self.states[each.name] != "done"]:
                return look, left
        return None, [each for each in self.study.noise_runs() if self.states[each.name] != "done"]

    def left(self, at_once: int) -> float | None:
        """Seconds that ``wanted`` takes; None if no experiment has been measured."""
        return None if self.seconds is None else self.seconds * len(self.wanted()[1]) / at_once


def of(ledger: Ledger) -> Status:
    """The status now, from files and locks."""
    study, done = ledger.study, ledger.done
    failures = results.failures(study)
    running = {path.stem for path in results.state(study).glob("*.lock") if slots.held(path)}
    note = results.state(study) / "look.json"
    look = read_json(note) if done and note.exists() else {}
    still = tuple(look["open"] if look.get("plan") == study.hash else study.params)

    def state(name: str) -> State:
        if name in done:
            return "done"
        return "running" if name in running else "failed" if name in failures else "missing"

    states = {each.name: state(each.name) for each in study.lines()}
    failed = {name: reason for name, reason in failures.items() if states.get(name) == "failed"}
    return Status(study, ledger.commit, states, failed, still, ledger.seconds)


def note_look(study: Study, still: Iterable[str]) -> None:
    """Record which variants are still open."""
    write_json(results.state(study) / "look.json", {"plan": study.hash, "open": list(still)})


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
    if look == "tuning":
        return "for tuning"
    return "for the sources of noise" if look is None else f"up to the look at {look} seeds"


def rows(found: Status) -> list[list[str]]:
    """For each variant: its name, a sign per seed, how many are done, and whether it is decided; a row before it for
    each if they are tuned. Then for each source of noise: a sign per run, and how many are done."""
    first, looks = found.study.plan.first_seed, set(found.study.plan.looks)
    made = []
    for variant in found.study.points:
        states = [found.states[each.name] for each in found.study.tuning() if each.variant == variant]
        made.append([f"{variant}, tuning", "".join(SIGNS[state] for state in states), str(states.count("done")), ""])
    for variant in found.study.params:
        own = [each for each in found.study.experiments() if each.variant == variant]
        signs = [
            SIGNS[found.states[each.name]] + "|" * (each.seed - first + 1 in looks and each is not own[-1])
            for each in own
        ]
        done = sum(found.states[each.name] == "done" for each in own)
        made.append([variant, "".join(signs), str(done), "" if variant in found.open else "decided"])
    for source in SOURCES if found.study.plan.noise else ():
        states = [found.states[each.name] for each in found.study.noise_runs() if each.source == source]
        signs = [SIGNS[state] for state in states]
        made.append([f"{found.study.baseline}, other {source}", "".join(signs), str(states.count("done")), ""])
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
                **{key: getattr(each, key) for key in ("name", "variant", "seed", "source", "tried")},
                "state": found.states[each.name],
                "reason": found.failures.get(each.name),
            }
            for number, each in enumerate(found.study.lines(), 1)
        ],
    }
