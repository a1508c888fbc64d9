"""The commands of ``ddpm ladder``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, Parameter, Token

from ddpm.base.files import atomic_path
from ddpm.cli.app import Json
from ddpm.cli.study_commands import Slots
from ddpm.cli.terminal import answer
from ddpm.ladder import attempt, climb, display, terms
from ddpm.ladder.climb import Attempt
from ddpm.ladder.terms import LADDERS, Contest
from ddpm.report import render

app = App(name="ladder")
EXIT_CODES = {"accepted": 0, "refused": 1, "undecided": 3}


def _ladder(_: type, tokens: Sequence[Token]) -> Path:
    """A ladder's file, or the one in ladders/ with that name."""
    value = tokens[0].value
    return Path(value) if "/" in value or value.endswith((".yaml", ".yml")) else LADDERS / f"{value}.yaml"


LadderFile: TypeAlias = Annotated[Path, Parameter(converter=_ladder, help="the ladder's file, or its name in ladders/")]


@app.command(name="try")
def try_entry(
    ladder: LadderFile,
    entry: Path,
    /,
    *,
    slots: Slots = None,
    allow_null: bool = False,
    json: Json = False,
) -> int:
    """Try an entry against the champion on fresh seeds; after any stop, the same command continues.

    Exit code 0 if it is accepted, 1 if it is refused, 3 if it is undecided.

    examples:
      ddpm ladder try digits ideas/min_snr.yaml

    Args:
        entry: a file of lines KEY: VALUE of params.yaml
        allow_null: accept an entry that changes nothing
    """
    contest, say = terms.load(ladder), _say(json)
    one = attempt.begin(contest, entry.stem, terms.entry(entry), allow_null, str(entry), say)
    return _finish(contest, one, slots, json)


@app.command
def challenge(ladder: LadderFile, rung: int, /, *, slots: Slots = None, json: Json = False) -> int:
    """Run a rung again on fresh seeds; it falls if it is refused.

    Exit code 0 if it holds, 1 if it falls, 3 if that is undecided: then it stands.

    examples:
      ddpm ladder challenge digits 3

    Args:
        rung: its number
    """
    contest = terms.load(ladder)
    return _finish(contest, attempt.challenge(contest, rung, _say(json)), slots, json)


@app.command
def show(ladder: LadderFile, /, *, json: Json = False) -> None:
    """Show the climb, and write it with its picture to ladders/NAME/climb.md.

    examples:
      ddpm ladder show digits
    """
    contest = terms.load(ladder)
    state = climb.read(contest)
    page, chapters = contest.folder / "climb.md", display.chapters(state)
    with atomic_path(page) as temporary:
        temporary.write_text(
            f"# {contest.terms.question}\n\n{render.markdown(chapters, contest.folder)}", encoding="utf-8"
        )
    answer(json, [display.to_dict(state, one) for one in (*state.attempts, *state.challenges)], render.text(chapters))


def _say(json: bool) -> attempt.Say:
    return partial(print, file=sys.stderr if json else sys.stdout, flush=True)  # with --json, stdout is for programs


def _finish(contest: Contest, one: Attempt, slots: int | None, json: bool) -> int:
    """Run an attempt to its end, print it, and return the exit code."""
    state = attempt.finish(contest, one, slots, _say(json))
    done = state.find(one.key)
    shown = display.to_dict(state, done)
    words = f"{shown['entry']} is {done.outcome}" + f": {done.reason}" * bool(done.reason)
    answer(json, shown, f"{words} (e-value {shown['e']:.3g} of {done.needed:.0f}, {shown['seeds']} seeds)")
    return EXIT_CODES[done.outcome or "undecided"]
