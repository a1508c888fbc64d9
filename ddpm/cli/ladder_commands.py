"""The commands of ``ddpm ladder``."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ddpm.arms import revision
from ddpm.arms.question import Question
from ddpm.base.errors import UserError, blame, plural
from ddpm.cli.app import Json, Names, in_folder
from ddpm.cli.study_commands import Commit, Many, Slots, repeat
from ddpm.cli.terminal import answer, write_run
from ddpm.ladder import attempt, climb, display, draft, found, search, trials
from ddpm.ladder.climb import Attempt, Climb
from ddpm.ladder.terms import LADDERS, Contest
from ddpm.params import file
from ddpm.report import render
from ddpm.report.live import PAGE, Live

app = App(name="ladder")
EXIT_CODES = {"accepted": 0, "refused": 1, "undecided": 3, "withdrawn": 3}


LadderFile: TypeAlias = Annotated[
    Path, Parameter(converter=in_folder(LADDERS), help="the ladder's file, or its name in ladders/")
]


@app.command
def new(name: str, /, *, base: str, common: Annotated[Names, Parameter("--set")] = ()) -> None:
    """Write a ladder's file, with comments and a space to search.

    examples:
      ddpm ladder new mine --base photos_short --set data.source=photos

    Args:
        name: of the file, ladders/NAME.yaml
        base: a preset, the first champion
        common: params keys of the base, as KEY=VALUE
    """
    path = draft.write(name, base, file.decode_options("--set", common))
    print(f"{path}: look at it, commit it, and `ddpm ladder search {name} --hours 1`")


@app.command(name="search")
def search_space(
    ladder: LadderFile,
    /,
    *,
    hours: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    trials: Annotated[int | None, Parameter(validator=Number(gte=4))] = None,
    slots: Slots = None,
    commit: Commit = None,
    json: Json = False,
) -> int:
    """Search the ladder's space, then prove the find on fresh seeds; run it again after a stop.

    Trials are not evidence; the find is tried like any other entry. Exit code 0 if it is accepted, 1 if it is refused
    or the search found nothing, 3 if it is undecided.

    examples:
      ddpm ladder search mine --hours 1
      ddpm ladder search mine --trials 80

    Args:
        hours: time for the search and the proof
        trials: number of trials of this search, one run each; shorter ones count in parts
    """
    if hours is None and trials is None:
        raise UserError("--hours or --trials: one of them is needed, to limit the search")
    contest = climb.load(ladder, revision.find(commit or "HEAD"))
    title, say = f"A search of {contest.name}", _say(json)
    with Live(contest.folder / PAGE, title, "ddpm ladder", say) as live:
        done = search.run(contest, hours, trials, slots, say, lambda so_far: live(partial(found.page, so_far)))
        result = found.to_dict(done)
        live.end(found.page(done, result))
    chapters = found.chapters(done, result)
    render.write(contest.folder / "search.md", title, "ddpm ladder", chapters)
    _publish(done.state)
    answer(json, result, render.text(chapters))
    proof = result["longer"] or result["proof"]
    return EXIT_CODES[proof["outcome"]] if proof else 1


@app.command(name="try")
def try_entry(
    ladder: LadderFile,
    entry: Path | None = None,
    /,
    *,
    slots: Slots = None,
    commit: Commit = None,
    allow_null: bool = False,
    json: Json = False,
) -> int:
    """Try an entry against the champion on fresh seeds; run it again after a stop.

    Exit code 0 if it is accepted, 1 if it is refused, 3 if it is undecided.

    examples:
      ddpm ladder try digits ideas/min_snr.yaml
      ddpm ladder try spirals  # a program's commit that is checked out

    Args:
        entry: a file with lines KEY: VALUE, of params.yaml or a program's values;
            without one, a program's commit that is checked out, or --commit
        allow_null: accept an entry that changes nothing
    """
    contest, say = climb.load(ladder, revision.find(commit or "HEAD")), _say(json)
    name, changes = contest.read_entry(entry, commit and contest.commit)
    attempt.check_committed(contest)
    one = attempt.begin(contest, name, changes, source=str(entry or name), say=say, allow_null=allow_null)
    with Live(contest.folder / PAGE, f"{one.begin.entry}: {contest.terms.question}", "ddpm ladder", say) as live:
        state = attempt.finish(contest, one, slots, say, lambda so_far: live(partial(display.page, so_far)))
        live.end(display.page(state, running=False))
    longer = (next_one for next_one in state.attempts[one.number :][:1] if next_one.begin.long)
    return _end(state, next(longer, state.find(one.key)), json)


@app.command
def withdraw(ladder: LadderFile, /, *, json: Json = False) -> int:
    """End the open attempt without a result, so that another can begin; its share of the error stays spent.

    examples:
      ddpm ladder withdraw digits
    """
    state = attempt.withdraw(climb.load(ladder))
    return _end(state, state.attempts[-1], json)


@app.command
def show(ladder: LadderFile, /, *, json: Json = False) -> None:
    """Show the climb; each attempt and search writes it, with its picture, to ladders/NAME/climb.md.

    examples:
      ddpm ladder show digits
    """
    state = climb.read(climb.load(ladder))
    text = render.text(display.chapters(state))
    answer(json, [display.to_dict(state, one) for one in state.attempts], text)


@app.command
def params(ladder: LadderFile, run: str, /, *, force: bool = False) -> None:
    """Write the params.yaml of one of its runs, so that `dvc repro` reproduces its scores.

    examples:
      ddpm ladder params digits 0a1b2c3d4e5f6071/challenger-42  # of rows.jsonl
      ddpm ladder params digits trial-42                        # line 42 of trials.jsonl

    Args:
        run: ATTEMPT/SIDE-SEED or trial-LINE
        force: overwrite uncommitted changes of params.yaml
    """
    contest = climb.load(ladder)
    if contest.of_program:
        raise UserError(f"{ladder}: params: its runs are a program's; each row has its command's values and its commit")
    tries = {f"trial-{number}": trial for number, trial in trials.Trials(contest).read().items()}
    row = f"{contest.name}-{run.replace('/', '-')}"
    made = {
        question.row_name(one.name): (one.params, question.records[one.name].revision)
        for question in _questions(contest)
        for one in question.planned
        if one.name in question.records
    }
    if trial := tries.get(run):
        made[row] = contest.trial(trial.changes, trial.seed, trial.length), None
    if row not in made:
        raise UserError(
            f"{run}: not a run of {ladder}; allowed: ATTEMPT/SIDE-SEED of a row {contest.name}-ATTEMPT-SIDE-SEED of "
            f"{contest.rows.path}, or trial-LINE of {trials.NAME}"
        )
    write_run(contest.name, run, *made[row], force)


@app.command
def audit(
    ladder: LadderFile, /, *, number: Many = 3, slots: Slots = None, commit: Commit = None, json: Json = False
) -> int:
    """Repeat runs of its attempts, drawn at random, and compare the scores, as `ddpm study audit` does.

    examples:
      ddpm ladder audit digits -n 3
    """
    contest = climb.load(ladder, revision.find(commit or "HEAD"))
    with blame(ladder):
        return repeat(_questions(contest), number, slots, json)


def _questions(contest: Contest) -> list[Question]:
    """The attempts, and the base's own runs."""
    state = climb.read(contest)
    return [*map(state.runs, state.attempts), state.runs_of_base()]


def _say(json: bool) -> attempt.Say:
    return partial(print, file=sys.stderr if json else sys.stdout, flush=True)  # with --json, stdout is for programs


def _publish(state: Climb) -> None:
    """Write the page of a climb, and log its runs."""
    contest = state.contest
    render.write(contest.folder / "climb.md", contest.terms.question, "ddpm ladder", display.chapters(state))
    display.log(state)


def _end(state: Climb, done: Attempt, json: bool) -> int:
    """Publish a climb, print how an attempt ended, and return the exit code."""
    _publish(state)
    shown = display.to_dict(state, done)
    end = ": ".join(filter(None, (f"{display.name_entry(shown)} is {shown['outcome']}", shown["reason"])))
    answer(json, shown, f"{end} (e-value {shown['e']:.3g} of {done.needed:.0f}, {plural(shown['seeds'], 'seed')})")
    return EXIT_CODES[shown["outcome"]]
