"""What each command of ``ddpm study`` does. None of them imports torch or MLflow by itself."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import duration
from ddpm.cli.terminal import Commands, command, print_json

if TYPE_CHECKING:  # they take half a second to import, which other commands need not spend
    from ddpm.compare.noise_levels import Difference
    from ddpm.study.plan import Experiment, Study
    from ddpm.study.results import Ledger
    from ddpm.study.runner import Share
    from ddpm.study.verdict import Findings

SHOWN_LINES = 8


def add(added: Commands) -> None:
    """Add the parsers of its commands."""
    study = command(added, "study", None, "take a question to a verdict: plan, run and judge a study")
    commands = study.add_subparsers(metavar="COMMAND", required=True)

    new = commands.add_parser("new", help="write a study's file, with comments")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--vary", nargs="+", required=True, metavar="KEY=A,B", help="params keys and their values")
    new.add_argument("--base", metavar="PRESET", help="(params.yaml)")
    new.add_argument("--looks", nargs="+", type=int, metavar="N", help="seeds at which it may be decided (8 12 16 20)")
    new.add_argument(
        "--spending", default="pocock", metavar="HOW", help="pocock, obrien_fleming, linear or evalue (%(default)s)"
    )
    new.set_defaults(run=write_new)

    planned = _of_file(commands, "plan", "show its experiments, what exists, the cost, the power at each look")
    planned.add_argument("--no-pilot", action="store_true", help="skip the few steps that measure the time of a run")
    planned.set_defaults(run=print_plan)

    costs = commands.add_parser("costs", help="count or measure a training step of each variant, for the plan's costs")
    costs.add_argument("file", type=Path)
    costs.set_defaults(run=print_costs)

    going = _of_file(commands, "run", "run what is missing, and decide; after any stop, the same command continues")
    going.add_argument("--line", type=int, metavar="K", help="only the K-th experiment of the plan, for job arrays")
    going.add_argument("--max-time", type=_minutes, metavar="MINUTES", help="then stop (exit code 75); continue later")
    going.add_argument("--push", action="store_true", help="push each result to the git remote origin, as `push` does")
    going.set_defaults(run=run)

    state = _of_file(commands, "status", "show what is done, running, failed and missing, and the time left")
    state.set_defaults(run=print_status)

    judged = commands.add_parser("verdict", help="judge what is finished by now, and run nothing")
    judged.add_argument("file", type=Path)
    judged.add_argument("--json", action="store_true", help="as JSON")
    judged.set_defaults(run=print_verdict)

    for name, function, about in (
        ("push", push, "send the results to a git remote, and their data to DVC's remote"),
        ("pull", pull, "take what other machines pushed"),
    ):
        shared = commands.add_parser(name, help=about)
        shared.add_argument("file", type=Path)
        shared.add_argument("--remote", default="origin", help="of git (%(default)s)")
        shared.set_defaults(run=function)


def _of_file(commands: Commands, name: str, about: str) -> argparse.ArgumentParser:
    made = commands.add_parser(name, help=about)
    made.add_argument("file", type=Path)
    made.add_argument("--slots", type=_positive, metavar="N", help="experiments at a time (one per core or GPU)")
    made.add_argument("--json", action="store_true", help="as JSON")
    return made


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return minutes


def write_new(parsed: argparse.Namespace) -> None:
    from ddpm.study import planning

    path = planning.write(parsed.name, parsed.vary, parsed.base, parsed.looks, parsed.spending)
    print(f"{path}: complete its question, commit it, and `ddpm study plan {path}`")


def print_plan(parsed: argparse.Namespace) -> None:
    from ddpm.study import plan, planning, status, verdict
    from ddpm.study.results import Ledger

    study = plan.load(parsed.file)
    ledger = Ledger(study)
    found = status.of(ledger)
    at_once = _slots(parsed, study)
    cost = planning.cost(found, pilot=not parsed.no_pilot)
    power = verdict.power(study)
    if parsed.json:
        print_json(status.to_dict(found, at_once) | {"cost": cost._asdict(), "power": [row._asdict() for row in power]})
    else:
        print(planning.text(found, at_once, cost, power))


def print_costs(parsed: argparse.Namespace) -> None:
    from ddpm.params import file
    from ddpm.study import budget, plan

    value, kind = budget.without(file.read(parsed.file), parsed.file)
    found = budget.costs(plan.parse(value, parsed.file), kind)
    print(budget.line(found))
    if found.spread > budget.NOISY:
        print(
            f"warning: measurements of one variant differ by up to {found.spread:.0%}: something else runs on this "
            "machine: stop it, and measure again",
            file=sys.stderr,
        )


def run(parsed: argparse.Namespace) -> int:
    """Exit code 1 if an experiment failed."""
    from ddpm.compare import sanity
    from ddpm.study import budget, plan, runner
    from ddpm.study.results import Ledger

    study = plan.load(parsed.file)
    sanity.check_decisive([study.plan.primary], study.plan.blind_to, f"{parsed.file}: blind_to", study.settings)
    ledger = Ledger(study)
    if not ledger.all:
        budget.check_count(study)
    ledger.fix()
    if ledger.moved:
        print(f"{study.name} goes on with commit {ledger.commit[:10]}, which made its first results", file=sys.stderr)
    with runner.within(parsed.max_time):
        return _run(parsed, ledger)


def _run(parsed: argparse.Namespace, ledger: Ledger) -> int:
    from ddpm.study import board, runner, sharing, verdict

    study, devices = ledger.study, runner.gpus(ledger.study)
    share = (lambda: sharing.push(study, list(ledger.done.values()))) if parsed.push else None
    if parsed.line is not None:
        return _run_line(parsed.line, ledger, devices, share)
    at_once = _slots(parsed, study)
    with board.shown(ledger, at_once, plain=parsed.json) as say:
        going = runner.Runner(ledger, at_once, devices, say, share)
        findings = going.run()
    findings, written = _write(ledger, findings)
    if parsed.json:
        print_json(verdict.to_dict(findings) | {"failed": going.failed})
    else:
        print(verdict.describe(findings), "", *written, sep="\n")
    for reason in going.failed.values():
        print(f"failed: {printable(reason)}", file=sys.stderr)
    if share:
        share()  # results that a remote refused earlier
    return 1 if going.failed else 0


def print_verdict(parsed: argparse.Namespace) -> None:
    """Raises UserError if no experiment is finished."""
    from ddpm.study import plan, runner, verdict
    from ddpm.study.results import Ledger

    ledger = Ledger(plan.load(parsed.file))
    if not ledger.done:
        raise UserError(f"{parsed.file}: none of its experiments is finished: `ddpm study run {parsed.file}` runs them")
    findings, written = _write(ledger, runner.Runner(ledger, 1, (), print).judge())
    if parsed.json:
        print_json(verdict.to_dict(findings))
    else:
        print(verdict.describe(findings), "", *written, sep="\n")


def _write(ledger: Ledger, findings: Findings) -> tuple[Findings, list[Path]]:
    """Write the verdict, its pictures and its page, and log them; return the verdict with all its notes, and the paths
    of the files."""
    from ddpm.compare import noise_levels
    from ddpm.study import runner

    ledger.update()
    levels = noise_levels.differences(ledger.found(), ledger.study.settings.compare.confidence)
    findings = replace(findings, notes=(*findings.notes, *noise_levels.lines(levels)))
    pictured = noise_levels.draw(levels, runner.paths(ledger.study)[0].parent)
    written = [*runner.write(ledger.study, findings), *pictured, _report(ledger, findings, levels)]
    _log(ledger, written)
    return findings, written


def _report(ledger: Ledger, findings: Findings, levels: Sequence[Difference]) -> Path:
    """Write the study's page; return its path."""
    from ddpm.pages import compared, report
    from ddpm.pages.compared import Compared
    from ddpm.study import curves, runner, tuning, verdict

    study, path = ledger.study, runner.paths(ledger.study)[0].with_name("report.html")
    arms = compared.of_runs({variant: runs for variant, runs in ledger.found().items() if runs})
    found = Compared(
        arms,
        findings.findings,
        list(verdict.titled(findings)),
        findings.notes,
        "no experiment is finished",
        levels,
        partial(curves.draw, findings.curves) if findings.curves else None,
        tuning.panels(findings.tuning, findings.primary),
        verdict.headlines(findings),
    )
    report.write_study(path, study.plan.question, found)
    return path


def _log(ledger: Ledger, written: list[Path]) -> None:
    """Log the study in MLflow; a failure there fails nothing here."""
    from ddpm.study import logged

    if os.environ.get("DDPM_TRACKING") != "off":
        try:
            logged.sync(ledger, written)
        except UserError as error:
            again = f"`ddpm track sync --study {ledger.study.path}` logs the study later"
            print(f"warning: {printable(str(error))}; {again}", file=sys.stderr)


def track(path: Path) -> None:
    """``ddpm track sync --study``."""
    from ddpm.study import logged, plan, runner
    from ddpm.study.results import Ledger

    ledger = Ledger(plan.load(path))
    sent = logged.sync(ledger, [path for path in runner.paths(ledger.study) if path.exists()])
    print(f"MLflow: the study {ledger.study.name} is complete; {len(sent)} runs are new")


def print_status(parsed: argparse.Namespace) -> None:
    from ddpm.study import plan, status
    from ddpm.study.results import Ledger

    study = plan.load(parsed.file)
    found, at_once = status.of(Ledger(study)), _slots(parsed, study)
    if parsed.json:
        print_json(status.to_dict(found, at_once))
    else:
        print(status.text(found, at_once))


def push(parsed: argparse.Namespace) -> None:
    from ddpm.study import plan, sharing
    from ddpm.study.results import Ledger

    study = plan.load(parsed.file)
    sent = sharing.push(study, list(Ledger(study).done.values()), parsed.remote)
    print(f"{parsed.remote}: {len(sent)} experiments sent")


def pull(parsed: argparse.Namespace) -> None:
    from ddpm.study import plan, sharing

    taken = sharing.pull(plan.load(parsed.file), parsed.remote)
    print(f"{parsed.remote}: {len(taken)} experiments taken; `ddpm study status {parsed.file}`")


def _run_line(number: int, ledger: Ledger, devices: tuple[str, ...], share: Share | None) -> int:
    from ddpm.study import runner
    from ddpm.study.worker import Worker

    experiment = _line(number, ledger)
    worker = Worker(ledger, devices[:1])
    with runner.stopping(worker):
        worker.run(experiment, patience=math.inf)
    ledger.update()
    if share:
        share()
    print(f"{experiment.name}: done in {duration(ledger.done[experiment.name].seconds)}")
    return 0


def _line(number: int, ledger: Ledger) -> Experiment:
    """Raises UserError if there is none, or its variant has to be tuned first."""
    study, planned = ledger.study, ledger.study.lines()
    if not 1 <= number <= len(planned):
        raise UserError(f"--line: {number} is not an experiment of {study.path}; allowed: 1 to {len(planned)}")
    chosen = planned[number - 1]
    if study.is_open(chosen):
        ledger.settle()
        if ledger.study.is_open(chosen):
            raise UserError(f"--line: {number}: {chosen.name}: {_untuned(chosen.variant, ledger)}")
        return ledger.study.lines()[number - 1]
    return chosen


def _untuned(variant: str, ledger: Ledger) -> str:
    """Why a variant has no values yet."""
    done = ledger.done
    own = [(k, each) for k, each in enumerate(ledger.study.tuning(), 1) if each.variant == variant]
    missing = [str(k) for k, each in own if each.name not in done]
    if missing:
        more = f" and {len(missing) - SHOWN_LINES} more" if len(missing) > SHOWN_LINES else ""
        return f"{variant} has to be tuned first: --line {' '.join(missing[:SHOWN_LINES])}{more}"
    return f"no value tried for {variant} gave a {ledger.study.plan.primary}"


def _slots(parsed: argparse.Namespace, study: Study) -> int:
    from ddpm.study import runner

    return int(parsed.slots or len(runner.gpus(study)) or cores())
