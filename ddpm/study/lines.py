"""One experiment of a study's plan, as a job of an array runs it."""

from __future__ import annotations

import math

from ddpm.base.errors import UserError
from ddpm.base.progress import duration
from ddpm.compare.runs import some
from ddpm.study import runner
from ddpm.study.results import Ledger
from ddpm.study.runner import Share
from ddpm.study.worker import Worker


def run(number: int, ledger: Ledger, devices: tuple[str, ...], share: Share | None) -> int:
    """Run one experiment of the plan, by its number from 1; return the exit code.

    Raises UserError if there is no such experiment, or its arm has to be tuned first.
    """
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
    """Why an arm has no values yet."""
    done = ledger.done
    own = [(k, each) for k, each in enumerate(ledger.study.tuning(), 1) if each.variant == variant]
    missing = [str(k) for k, each in own if each.name not in done]
    if missing:
        return f"{variant} has to be tuned first: --line {some(missing, 8, ' ')}"
    return f"no value tried for {variant} gave a {ledger.study.plan.primary}"
