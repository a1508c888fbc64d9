"""The commands of ``ddpm study``."""

import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from ddpm.arms import pool, revision
from ddpm.arms.question import Question
from ddpm.base.errors import UserError, blame, printable
from ddpm.base.locks import is_locked, read_holder
from ddpm.cli.app import Json, Names, Plan, Tables
from ddpm.cli.terminal import answer, write_run
from ddpm.report import judgement as shown
from ddpm.report import paper, render
from ddpm.report.blocks import Block
from ddpm.report.live import PAGE, Live
from ddpm.study import audit as auditing
from ddpm.study import judging, loading, publication, status
from ddpm.study.ledger import Ledger, open_ledger
from ddpm.verdicts.result import Judgement
from ddpm.verdicts.verdict import exit_code

app = App(name="study")
LOOP = Group("From a question to a verdict", sort_key=1)
AGAIN = Group("Its records again", sort_key=2)
STATES = Path(".ddpm/checkpoints")  # of trainings that were stopped
Commit: TypeAlias = Annotated[str | None, Parameter(help="commit whose code runs (the one that is checked out)")]
Many: TypeAlias = Annotated[int, Parameter(("--number", "-n"), validator=Number(gte=1), help="number of records")]
Slots: TypeAlias = Annotated[
    int | None, Parameter(validator=Number(gte=1), help="runs at a time (one per core or GPU; of a program, one)")
]


@app.command(group=LOOP)
def new(
    name: str,
    /,
    *,
    vary: Names,
    base: str | None = None,
    common: Annotated[Names, Parameter("--set")] = (),
) -> None:
    """Write a study's file, with comments.

    examples:
      ddpm study new loss --vary diffusion.loss.name=simple,min_snr

    Args:
        name: of the file, studies/NAME.yaml
        vary: params keys and their values, as KEY=A,B
        base: a preset (params.yaml)
        common: params keys of all arms, as KEY=VALUE
    """
    path = loading.draft(name, vary, common, base)
    print(f"{path}: complete it, commit it, and `ddpm study status {name} --pilot`")


@app.command(group=LOOP)
def run(
    file: Plan,
    /,
    *,
    slots: Slots = None,
    json: Json = False,
    line: int | None = None,
    commit: Commit = None,
) -> int:
    """Run the missing experiments, and judge; run it again after a stop.

    Exit code 1 if an experiment failed.

    examples:
      ddpm study run studies/loss.yaml
      ddpm study run studies/loss.yaml --line 3  # one experiment, for job arrays

    Args:
        line: only this experiment of the plan, for job arrays
    """
    study = loading.load(file)
    ledger = open_ledger(study, commit)
    ledger.check_study()
    say = partial(print, file=sys.stderr if json else sys.stdout, flush=True)  # with --json, stdout is for programs
    code, judgement = 0, None
    if line is not None:
        planned = ledger.study.lines()
        if not 1 <= line <= len(planned):
            raise UserError(f"--line: {line} is not an experiment of {file}; allowed: 1 to {len(planned)}")
        failed = judging.complete(ledger, [planned[line - 1]], slots, say, keep_models=True)
    else:
        with Live(study.results / PAGE, study.plan.question, "ddpm study", say) as live:

            def tell(line: str) -> None:
                say(line)
                if ledger.records:  # what is refused before the first run leaves nothing
                    live(partial(publication.page, ledger, line))

            judgement, failed = judging.run(ledger, slots, tell)
            if ledger.records:
                live.end(
                    [*shown.chapters(judgement, publication.pictures(study)), *publication.page(ledger, "complete")[1:]]
                )
    if judgement and ledger.records:
        code = _publish(ledger, judgement, json, failed=failed)
    elif json:  # there is nothing to judge
        answer(json, {"failed": failed})
    for reason in judging.merge_reasons(failed.values()):
        print(f"failed: {printable(reason)}", file=sys.stderr)
    return 1 if failed else code


def _publish(ledger: Ledger, judgement: Judgement, json: bool, tables: Sequence[Path] = (), **more: object) -> int:
    """Publish the verdict with its pictures, and log the study."""
    code = publish(judgement, publication.pictures(ledger.study), ledger.study.results, tables, json, **more)
    publication.log(ledger, judgement)
    return code


def publish(
    judgement: Judgement, samples: Sequence[Block], out: Path | None, tables: Sequence[Path], json: bool, **more: object
) -> int:
    """Write the verdict into ``out`` and the tables, print it, and return the exit code. samples: pictures of the arms.
    more: what the JSON has besides."""
    chapters = shown.chapters(judgement, samples)
    written = publication.write_verdict(judgement, out, chapters) if out else []
    written += [paper.write(judgement, path) for path in tables]
    answer(json, shown.to_dict(judgement) | more, render.text(chapters), *([""] if written else []), *written)
    return exit_code(judgement.verdicts, judgement.primary)


@app.command(name="verdict", group=LOOP)
def print_verdict(file: Plan, /, *, tables: Tables = (), json: Json = False) -> int:
    """Judge the runs so far, and start none.

    examples:
      ddpm study verdict studies/loss.yaml
      ddpm study verdict loss --table loss.tex loss.csv
    """
    ledger = open_ledger(loading.load(file))
    ledger.check_plan()
    if not ledger.records:
        raise UserError(f"{file}: none of its experiments is finished: `ddpm study run {file}` runs them")
    return _publish(ledger, judging.judge(ledger), json, tables)


@app.command(name="status", group=LOOP)
def print_status(file: Plan, /, *, slots: Slots = None, pilot: bool = False, json: Json = False) -> None:
    """Show its experiments by state, their cost, and the power at each look.

    examples:
      ddpm study status studies/loss.yaml --pilot  # before the first run
      ddpm study status studies/loss.yaml          # in another terminal, as it runs

    Args:
        pilot: first train one run of the baseline, to measure its time and whether the training is long enough
    """
    ledger = open_ledger(loading.load(file))
    tried = status.pilot(ledger) if pilot and not ledger.records else None
    state = status.of(ledger, slots, tried)
    answer(json, asdict(state), render.text(status.chapters(state, ledger.study)))


@app.command(group=AGAIN)
def params(file: Plan, arm: str, seed: int, /, *, force: bool = False) -> None:
    """Write the params.yaml of one of its runs, so that `dvc repro` reproduces its scores.

    examples:
      ddpm study params studies/loss.yaml min_snr 3

    Args:
        arm: one of the study's arms
        seed: one of its seeds
        force: overwrite uncommitted changes of params.yaml
    """
    ledger = open_ledger(loading.load(file))
    study = ledger.study
    if study.of_program:
        raise UserError(f"{file}: params: its runs are a program's; each row has its command's values and its commit")
    here = [one for one in study.lines() if (one.arm, one.seed) == (arm, seed) and not study.is_open(one)]
    if not here or here[-1].recipe.program:
        allowed = ", ".join(name for name, recipe in study.arms.items() if not recipe.program)
        raise UserError(f"{arm} {seed}: not a run of {file} by dvc; allowed: an arm ({allowed}) and one of its seeds")
    run = ledger.records.get(here[-1].name)
    write_run(study.name, here[-1].name, here[-1].params, run.revision if run else None, force)


@app.command(group=AGAIN)
def audit(
    file: Plan,
    /,
    *,
    number: Many = 3,
    slots: Slots = None,
    commit: Commit = None,
    json: Json = False,
) -> int:
    """Repeat runs, those that diverged first and others at random, and compare all but the times.

    It uses a clean folder, a clean environment and a new copy of the code. Exit code 1 if records differ; 3 if they
    differ no more than rounding does on another processor or torch. If six of twelve records are invented, three
    repeats find one with a probability of 91%.

    examples:
      ddpm study audit studies/loss.yaml -n 3
    """
    ledger = open_ledger(loading.load(file), commit)
    ledger.check_plan()
    with blame(file):
        return repeat([ledger], number, slots, json)


def repeat(questions: Collection[Question], number: int, slots: int | None, json: bool) -> int:
    """Make some of the records again, print whether they are the same, and return the exit code."""
    findings, code = [], 0
    for finding in auditing.repeat(questions, number, slots):
        findings.append(finding)
        reasons = [*finding.elsewhere, *(f"other code: {part}" for part in finding.other_code)]
        why = f" ({'; '.join(reasons)})" if reasons else ""
        if not json:
            shown = "{} was {}, and is {}".format(*finding.difference) if finding.difference else "the same"
            shown += ", as rounding may" if finding.rounding else ""
            print(f"{finding.name}: {shown}{why}", flush=True)
        if finding.difference:
            code = 3 if finding.rounding and code != 1 else 1
    if json:
        answer(json, [finding._asdict() for finding in findings])
    return code


@app.command(group=AGAIN)
def clean(*, states: bool = False) -> None:
    """Delete the working files of all studies and ladders, but not their records and logs; print the space freed.

    examples:
      ddpm study clean           # data, models and code: they are made again
      ddpm study clean --states  # trainings that were stopped, too

    Args:
        states: also delete the checkpoints of stopped trainings
    """
    locks = (path for folder in (".", f"audit-*/{pool.FOLDER}") for path in pool.FOLDER.glob(f"{folder}/*.lock"))
    if running := [path for path in locks if is_locked(path)]:
        raise UserError(f"{running[0]}: {read_holder(running[0])} runs an experiment: wait for it, or stop it")
    folders = [folder for folder in (pool.FOLDER, revision.FOLDER, *([STATES] if states else [])) if folder.exists()]
    if links := [folder for folder in folders if folder.is_symlink()]:
        raise UserError(f"{links[0]}: is a link to {links[0].resolve()}: delete by hand what is there")
    stats = (path.lstat() for folder in folders for path in folder.rglob("*"))
    freed = sum({stat.st_ino: stat.st_size for stat in stats}.values())  # links once
    for folder in folders:
        shutil.rmtree(folder)
    print(f"{freed / 2**20:,.1f} MiB freed")
