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

from ddpm.base.errors import UserError, printable
from ddpm.base.machine import cores
from ddpm.base.progress import duration
from ddpm.cli.terminal import answer
from ddpm.compare import noise_levels, sanity
from ddpm.compare.noise_levels import Difference
from ddpm.compare.runs import some
from ddpm.compare.too_early import exit_code
from ddpm.study import curves, plan, planning, results, runner, sharing, slurm, status, tuning, verdict
from ddpm.study.plan import Study
from ddpm.study.results import Ledger
from ddpm.study.runner import Share
from ddpm.study.verdict import Findings
from ddpm.study.worker import Worker


def write_new(parsed: argparse.Namespace) -> None:
    path = planning.write(parsed.name, parsed.vary, parsed.common, parsed.base, parsed.looks, parsed.spending)
    print(f"{path}: complete it, commit it, and `ddpm study plan {parsed.name}`")


def print_plan(parsed: argparse.Namespace) -> None:
    study = plan.load(parsed.file)
    ledger = Ledger(study)
    if not ledger.all:
        planning.check_sources(study)
    found = status.of(ledger)
    at_once = _slots(parsed, study)
    cost = planning.cost(found, pilot=not parsed.no_pilot)
    power = verdict.power(study)
    costs = {"cost": cost._asdict(), "power": [row._asdict() for row in power]}
    answer(parsed, status.to_dict(found, at_once) | costs, planning.text(found, at_once, cost, power))


def run(parsed: argparse.Namespace) -> int:
    """Exit code 1 if an experiment failed."""
    study = plan.load(parsed.file)
    sanity.check_decisive([study.plan.primary], study.plan.blind_to, f"{parsed.file}: blind_to", study.settings)
    ledger = Ledger(study)
    if not ledger.all:
        planning.check_sources(study)
    ledger.fix(parsed.commit)
    if ledger.moved:
        print(f"{study.name} goes on with commit {ledger.commit[:10]}, which made its first results", file=sys.stderr)
    with runner.within(parsed.max_time):
        return _run(parsed, ledger)


def _run(parsed: argparse.Namespace, ledger: Ledger) -> int:
    study, devices = ledger.study, runner.gpus(ledger.study)
    share = (lambda: sharing.push(study, list(ledger.done.values()))) if parsed.push else None
    if parsed.line is not None:
        return _run_line(parsed.line, ledger, devices, share)
    at_once = _slots(parsed, study)
    with status.shown(ledger, at_once, plain=parsed.json) as say:
        going = runner.Runner(ledger, at_once, devices, say, share)
        findings = going.run()
    findings, written = _write(ledger, findings)
    answer(parsed, verdict.to_dict(findings) | {"failed": going.failed}, verdict.describe(findings), "", *written)
    for reason in going.failed.values():
        print(f"failed: {printable(reason)}", file=sys.stderr)
    if share:
        share()  # results that a remote refused earlier
    return 1 if going.failed else exit_code(findings.findings, findings.primary)


def print_verdict(parsed: argparse.Namespace) -> int:
    """Raises UserError if no experiment is finished."""
    ledger = Ledger(plan.load(parsed.file))
    if not ledger.done:
        raise UserError(f"{parsed.file}: none of its experiments is finished: `ddpm study run {parsed.file}` runs them")
    findings, written = _write(ledger, runner.Runner(ledger, 1, (), print).judge())
    answer(parsed, verdict.to_dict(findings), verdict.describe(findings), "", *written)
    return exit_code(findings.findings, findings.primary)


def _write(ledger: Ledger, findings: Findings) -> tuple[Findings, list[Path]]:
    """Write the verdict, its pictures and its page, and log them; return the verdict with all its notes, and the paths
    of the files."""
    ledger.update()
    levels = noise_levels.differences(ledger.found(), ledger.study.settings.compare.confidence)
    findings = replace(findings, notes=(*findings.notes, *noise_levels.lines(levels)))
    pictured = noise_levels.draw(levels, runner.paths(ledger.study)[0].parent)
    written = [*runner.write(ledger.study, findings), *pictured, _report(ledger, findings, levels)]
    _log(ledger, written)
    return findings, written


def _report(ledger: Ledger, findings: Findings, levels: Sequence[Difference]) -> Path:
    """Write the study's page; return its path."""
    from ddpm.pages import compared, report  # torch comes with them

    study, path = ledger.study, runner.paths(ledger.study)[0].with_name("report.html")
    arms = compared.of_runs({variant: runs for variant, runs in ledger.found().items() if runs})
    found = compared.Compared(
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
    from ddpm.study import logged

    ledger = Ledger(plan.load(path))
    sent = logged.sync(ledger, [path for path in runner.paths(ledger.study) if path.exists()])
    print(f"MLflow: the study {ledger.study.name} is complete; {len(sent)} runs are new")


def print_status(parsed: argparse.Namespace) -> None:
    study = plan.load(parsed.file)
    ledger = Ledger(study, any_plan=True)
    if ledger.refusal:
        print(f"warning: {ledger.refusal}", file=sys.stderr)
    found, at_once = status.of(ledger), _slots(parsed, study)
    answer(parsed, status.to_dict(found, at_once), status.text(found, at_once))


def print_job(parsed: argparse.Namespace) -> None:
    study = plan.load(parsed.file)
    print(slurm.script(status.of(Ledger(study)), parsed.time, pilot=not parsed.no_pilot), end="")
    results.state(study).mkdir(parents=True, exist_ok=True)  # where Slurm writes the logs: it makes no folder


def push(parsed: argparse.Namespace) -> None:
    study = plan.load(parsed.file)
    sent = sharing.push(study, list(Ledger(study).done.values()), parsed.remote)
    print(f"{parsed.remote}: {len(sent)} experiments sent")


def pull(parsed: argparse.Namespace) -> None:
    taken = sharing.pull(plan.load(parsed.file), parsed.remote)
    print(f"{parsed.remote}: {len(taken)} experiments taken; `ddpm study status {parsed.file}`")


def _run_line(number: int, ledger: Ledger, devices: tuple[str, ...], share: Share | None) -> int:
    """Raises UserError if there is no such line, or its variant has to be tuned first."""
    planned = ledger.study.lines()
    if not 1 <= number <= len(planned):
        raise UserError(f"--line: {number} is not an experiment of {ledger.study.path}; allowed: 1 to {len(planned)}")
    if ledger.study.is_open(planned[number - 1]):
        ledger.settle()
    experiment = ledger.study.lines()[number - 1]
    if ledger.study.is_open(experiment):
        raise UserError(f"--line: {number}: {experiment.name}: {_untuned(experiment.variant, ledger)}")
    worker = Worker(ledger, devices[:1])
    with runner.stopping(worker):
        worker.run(experiment, patience=math.inf)
    ledger.update()
    if share:
        share()
    print(f"{experiment.name}: done in {duration(ledger.done[experiment.name].seconds)}")
    return 0


def _untuned(variant: str, ledger: Ledger) -> str:
    """Why a variant has no values yet."""
    done = ledger.done
    own = [(k, each) for k, each in enumerate(ledger.study.tuning(), 1) if each.variant == variant]
    missing = [str(k) for k, each in own if each.name not in done]
    if missing:
        return f"{variant} has to be tuned first: --line {some(missing, 8, ' ')}"
    return f"no value tried for {variant} gave a {ledger.study.plan.primary}"


def _slots(parsed: argparse.Namespace, study: Study) -> int:
    return int(parsed.slots or len(runner.gpus(study)) or cores())
