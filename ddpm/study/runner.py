"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it."""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from ddpm.base.errors import UserError, printable
from ddpm.base.files import atomic_path, write_json
from ddpm.base.paths import METRICS
from ddpm.base.progress import duration
from ddpm.compare import sanity, tables
from ddpm.pictures import plots
from ddpm.study import best, budget, curves, status, tuning, verdict
from ddpm.study.plan import Experiment, Study
from ddpm.study.results import Ledger
from ddpm.study.worker import Busy, Worker

Share: TypeAlias = Callable[[], object]
CONTINUE = 75  # exit code if the same command should be run again: sysexits.h's EX_TEMPFAIL
ATTEMPTS = ("again later", "given up")  # what follows each time that an experiment fails
POLL = 1.0  # seconds between two checks of experiments that other processes run


class Runner:
    """Runs a study on ``slots`` slots. say: receives progress, line by line. share: called after each result.
    failed: name -> reason."""

    def __init__(
        self,
        ledger: Ledger,
        slots: int,
        devices: tuple[str, ...],
        say: Callable[[str], None],
        share: Share | None = None,
    ):
        self.ledger = ledger
        self.slots = slots
        self.worker = Worker(ledger, tuple(devices[k % len(devices)] for k in range(slots)) if devices else ())
        self.say = say
        self.share = share
        self.failed: dict[str, str] = {}

    @property
    def study(self) -> Study:
        return self.ledger.study

    def run(self) -> verdict.Findings:
        """Tune the variants. Continue until all are decided, the plan ends, or everything left has failed."""
        baseline = self.study.baseline
        if left := self.ledger.missing(self.study.tuning()):
            self._make(left, status.aim("tuning"))
        findings = self.judge()
        for look in self.study.plan.looks:
            while left := self._needed(look, findings):  # again if what was decided has to hold at other values too
                self._make(left, status.aim(look))
                findings = self.judge()
                still = ", ".join(variant for variant in findings.open if variant != baseline)
                self.say(f"look at {look} seeds: {f'still open: {still}' if still else 'all are decided'}")
        return findings

    def _needed(self, look: int, findings: verdict.Findings) -> list[Experiment]:
        """What is missing up to a look for the variants that are open, without those of which an experiment failed."""
        study, planned, others = self.study, self.study.experiments(), self.study.alternatives()
        broken = {each.variant for each in planned if each.name in self.failed or study.is_open(each)}
        lost = {(each.variant, each.alternative) for each in others if each.name in self.failed}
        broken |= {variant for variant, arm, place in findings.alternatives if (arm, place) in lost}
        going = set(findings.open) - broken
        if not going - {study.baseline} or study.baseline in broken:
            return []
        needed = {(arm, place) for variant, arm, place in findings.alternatives if variant in going}
        wanted = [each for each in study.experiments(look) if each.variant in going]
        wanted += [each for each in study.alternatives(look) if (each.variant, each.alternative) in needed]
        return self.ledger.missing(wanted)

    def judge(self) -> verdict.Findings:
        """The verdict at the last look that all of its runs have reached. Runs nothing."""
        self.ledger.update()
        self.ledger.settle()
        found = self.ledger.found()
        findings = verdict.judge(self.study, found)
        findings = best.claimed(self.study, findings, found, self.ledger.alternatives(), self.ledger.tried)
        decisive = [each for each in findings.findings if each.metric == findings.primary]
        outcomes = {each.variant: each.outcome for each in decisive}
        status.note_look(self.study, findings.open, outcomes, findings.alternatives)
        looks = {each.variant: each.look for each in decisive}
        learned, tried = curves.curves(self.study, found, looks), self.ledger.tried
        notes = (
            *sanity.of_primary(self.study.plan.primary, self.study.settings),
            *budget.notes(self.study),
            *tuning.notes(tried, self.study.plan.primary),
            *findings.notes,
            *((curves.note(self.study),) if learned and learned.against else ()),
            *(f"left out {printable(reason)}" for reason in self.ledger.damaged.values()),
            f"all runs are of commit {self.ledger.commit}, by the plan {self.study.hash}",
        )
        return replace(findings, curves=learned, tuning=tried, notes=notes)

    def _make(self, left: list[Experiment], aim: str) -> None:
        """Run them; retry each failed one once, after the others."""
        count, over = len(left), 0
        pool = ThreadPoolExecutor(self.slots)
        with stopping(self.worker, pool):
            for what_follows in ATTEMPTS:
                for each, reason in self._finished(pool, left):
                    if reason is None:
                        self.failed.pop(each.name, None)
                        self._share()
                        over += 1
                        rest = status.time_left(self.ledger.seconds, count - over, self.slots)
                        self.say(f"{each.name}: {self._score(each)}; {over} of {count} {aim}{rest}")
                    else:
                        self.failed[each.name] = reason
                        self.say(f"failed: {reason}; {what_follows}")
                left = [each for each in left if each.name in self.failed]

    def _share(self) -> None:
        """A remote that is unreachable for a while stops nothing: the caller of ``run`` shares once more."""
        self.ledger.update()
        try:
            if self.share:
                self.share()
        except UserError as error:
            self.say(f"warning: {error}")

    def _score(self, experiment: Experiment) -> str:
        result, metric, score = self.ledger.done[experiment.name], self.study.plan.primary, "diverged"
        if not result.diverged:
            score = f"{metric} {self.ledger.run(experiment).scores.get(metric, math.nan):.4g}"
        return f"{score} in {duration(result.seconds)}"

    def _finished(self, pool: ThreadPoolExecutor, left: list[Experiment]) -> Iterator[tuple[Experiment, str | None]]:
        """Each experiment when it ends, with the reason if it failed."""
        futures = {pool.submit(self.worker.run, each): each for each in left}
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


def paths(study: Study) -> list[Path]:
    """The files of the verdict: for programs, for people, and pictures of it, of the curves and of the tuning."""
    names = ("verdict.json", "verdict.md", "verdict.png", "curve.png", "tuning.png")
    return [METRICS / "studies" / study.name / name for name in names]


def write(study: Study, findings: verdict.Findings) -> list[Path]:
    """Write the verdict; return its paths."""
    for_programs, for_people, picture, curve, tried = paths(study)
    write_json(for_programs, verdict.to_dict(findings))
    with atomic_path(for_people) as temporary:
        temporary.write_text(verdict.markdown(findings))
    if findings.findings:
        tables.draw(findings.findings, picture)
    if findings.curves:
        curves.draw(findings.curves, curve)
    if panels := tuning.panels(findings.tuning, findings.primary):
        plots.lines(tried, panels)
    return [path for path in paths(study) if path.exists()]


def gpus(study: Study) -> tuple[str, ...]:
    """The GPUs that a study's experiments may use, as CUDA_VISIBLE_DEVICES names them."""
    if {config.device for config in study.configs.values()} == {"cpu"}:
        return ()
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, visible.split(",")))
    return tuple(map(str, range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))))
