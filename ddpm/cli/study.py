"""What each command of ``ddpm study`` does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ddpm.base.errors import UserError, printable
from ddpm.cli.terminal import Commands
from ddpm.study.plan import Experiment, Study


def add(added: Commands) -> None:
    """Its parsers."""
    study = added.add_parser("study", help="from a question to a verdict: plan, run and judge the runs of a study")
    commands = study.add_subparsers(metavar="COMMAND", required=True)
    going = commands.add_parser("run", help="run what is missing, and decide; after any stop it goes on")
    going.add_argument("file", type=Path)
    going.add_argument("--slots", type=int, metavar="N", help="experiments at a time (one a core, or one a GPU)")
    going.add_argument("--line", type=int, metavar="K", help="only the K-th experiment of the plan, for job arrays")
    going.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Exit code 1 when an experiment failed."""
    from ddpm.study import plan, results, runner, verdict
    from ddpm.study.worker import Worker

    study = plan.load(parsed.file)
    ledger = results.Ledger(study)
    ledger.fix()
    devices = runner.gpus(study)
    if parsed.line is not None:
        worker = Worker(ledger, devices[:1])
        with runner.stopping(worker):
            worker.run(_line(parsed.line, study))
        return 0
    slots = parsed.slots or len(devices) or runner.cores()
    going = runner.Runner(ledger, slots, devices, lambda line: print(line, flush=True))
    findings = going.run()
    written = runner.write(study, findings)
    print(verdict.describe(findings), "", *written, sep="\n")
    for reason in going.failed.values():
        print(f"failed: {printable(reason)}", file=sys.stderr)
    return 1 if going.failed else 0


def _line(number: int, study: Study) -> Experiment:
    planned = study.experiments()
    if not 1 <= number <= len(planned):
        raise UserError(f"--line: {number} is not an experiment of {study.path}; allowed: 1 to {len(planned)}")
    return planned[number - 1]
