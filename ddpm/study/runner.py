"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.progress import duration
from ddpm.runs.alike import some
from ddpm.study import judging, status
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.study.worker import Busy, OtherCode, Worker
from ddpm.verdicts.comparison import Judgement

CONTINUE = 75  # exit code if the same command should be run again: sysexits.h's EX_TEMPFAIL
ATTEMPTS = ("again later", "given up")  # what follows each time that an experiment fails
POLL = 1.0  # seconds between two checks of experiments that other processes run


class Runner:
    """Runs a study on ``slots`` slots. say: receives progress, line by line. failed: name -> reason."""

    def __init__(self, ledger: Ledger, slots: int, devices: tuple[str, ...], say: Callable[[str], None]):
        self.ledger = ledger
        self.slots = slots
        self.worker = Worker(ledger, tuple(devices[k % len(devices)] for k in range(slots)) if devices else ())
        self.say = say
        self.failed: dict[str, str] = {}

    @property
    def study(self) -> Study:
        return self.ledger.study

    def run(self) -> Judgement:
        """Tune the arms. Continue until all are decided, the plan ends, or everything left has failed."""
        baseline = self.study.baseline
        if left := self.ledger.missing(self.study.tuning()):
            self._run(left, status.aim("tuning"))
        judgement = self._judge()
        for look in self.study.plan.looks:
            while left := self._needed(look, judgement):  # again if what was decided has to hold at other values too
                self._run(left, status.aim(look))
                judgement = self._judge()
                still = ", ".join(arm for arm in judgement.open if arm != baseline)
                self.say(f"look at {look} seeds: {f'still open: {still}' if still else 'all are decided'}")
        return judgement

    def _needed(self, look: int, judgement: Judgement) -> list[Experiment]:
        """What is missing up to a look for the arms that are open, without those of which an experiment failed."""
        study, planned, others = self.study, self.study.experiments(), self.study.alternatives()
        broken = {run.arm for run in planned if run.name in self.failed or study.is_open(run)}
        lost = {(run.arm, run.alternative) for run in others if run.name in self.failed}
        broken |= {waiting for waiting, arm, place in judgement.alternatives if (arm, place) in lost}
        going = set(judgement.open) - broken
        if not going - {study.baseline} or study.baseline in broken:
            return []
        needed = {(arm, place) for waiting, arm, place in judgement.alternatives if waiting in going}
        wanted = [experiment for experiment in study.experiments(look) if experiment.arm in going]
        wanted += [
            experiment for experiment in study.alternatives(look) if (experiment.arm, experiment.alternative) in needed
        ]
        return self.ledger.missing(wanted)

    def _judge(self) -> Judgement:
        judgement = judging.judge(self.ledger)
        status.note_look(self.study, judgement)
        return judgement

    def _run(self, left: list[Experiment], aim: str) -> None:
        """Run them; retry each failed one once, after the others."""
        count, over = len(left), 0
        pool = ThreadPoolExecutor(self.slots)
        with stopping(self.worker, pool):
            for what_follows in ATTEMPTS:
                for experiment, failure in self._finished(pool, left):
                    self.ledger.update()
                    reason = failure or self.ledger.refused.get(experiment.name)  # another machine may have made it
                    if reason is None:
                        self.failed.pop(experiment.name, None)
                        over += 1
                        rest = status.time_left(self.ledger.seconds, count - over, self.slots)
                        self.say(f"{experiment.name}: {self._score(experiment)}; {over} of {count} {aim}{rest}")
                    else:
                        self.failed[experiment.name] = reason
                        self.say(f"failed: {reason}; {what_follows}")
                left = [experiment for experiment in left if experiment.name in self.failed]

    def _score(self, experiment: Experiment) -> str:
        run = self.ledger.records[experiment.name]
        metric = self.study.plan.primary
        score = "diverged" if run.diverged else f"{metric} {run.scores[metric]:.4g}"
        return f"{score} in {duration(run.seconds)}"

    def _finished(self, pool: ThreadPoolExecutor, left: list[Experiment]) -> Iterator[tuple[Experiment, str | None]]:
        """Each experiment when it ends, with the reason if it failed."""
        futures = {pool.submit(self.worker.run, experiment): experiment for experiment in left}
        waiting = set(futures)
        while waiting:
            over, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in over:
                try:
                    future.result()
                except Busy:  # somebody else's: ask again later
                    again = pool.submit(self._later, futures[future])
                    futures[again] = futures[future]
                    waiting.add(again)
                except OtherCode:
                    raise
                except UserError as error:
                    yield futures[future], str(error)
                else:
                    yield futures[future], None

    def _later(self, experiment: Experiment) -> None:
        self.worker.stopped.wait(POLL)
        self.worker.run(experiment)


@contextmanager
def stopping(worker: Worker, pool: ThreadPoolExecutor | None = None) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, end what runs with its state saved, and start nothing else."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        worker.stop()
        raise
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def within(minutes: float | None) -> Iterator[None]:
    """Exit with CONTINUE when the time is over; None: never."""

    def end(*_: object) -> None:
        print(f"stopped after {minutes:g} minutes: the same command goes on", file=sys.stderr)
        raise SystemExit(CONTINUE)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, 60 * (minutes or 0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def line(number: int, ledger: Ledger, devices: tuple[str, ...]) -> None:
    """Run one experiment of the plan, by its number from 1, as a job of an array does.

    Raises UserError if there is no such experiment, its arm has to be tuned first, or it fails.
    """
    planned = ledger.study.lines()
    if not 1 <= number <= len(planned):
        raise UserError(f"--line: {number} is not an experiment of {ledger.study.path}; allowed: 1 to {len(planned)}")
    if ledger.study.is_open(planned[number - 1]):
        ledger.settle()
    experiment = ledger.study.lines()[number - 1]
    if ledger.study.is_open(experiment):
        tuning = [(k, trial) for k, trial in enumerate(ledger.study.tuning(), 1) if trial.arm == experiment.arm]
        missing = [str(k) for k, trial in tuning if trial.name not in ledger.records]
        why = (
            f"{experiment.arm} has to be tuned first: --line {some(missing, 8, ' ')}"
            if missing
            else (f"no value tried for {experiment.arm} gave a {ledger.study.plan.primary}")
        )
        raise UserError(f"--line: {number}: {experiment.name}: {why}")
    worker = Worker(ledger, devices[:1])
    with stopping(worker):
        worker.run(experiment, patience=math.inf)
    ledger.update()
    print(f"{experiment.name}: done in {duration(ledger.records[experiment.name].seconds)}")


def gpus(study: Study) -> tuple[str, ...]:
    """The GPUs that a study's experiments may use, as CUDA_VISIBLE_DEVICES names them."""
    if {config.device for config in study.configs.values()} == {"cpu"}:
        return ()
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, visible.split(",")))
    return tuple(map(str, range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))))
