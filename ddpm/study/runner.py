"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.machine import cores
from ddpm.base.progress import duration
from ddpm.study import judging
from ddpm.study.experiments import Experiment, Study
from ddpm.study.ledger import Ledger
from ddpm.study.worker import Busy, Worker
from ddpm.verdicts.comparison import Judgement

POLL = 1.0  # seconds between two checks of experiments that other processes run


class Runner:
    """Runs a study on ``slots`` slots. say: receives progress, line by line. failed: name -> reason."""

    def __init__(self, ledger: Ledger, slots: int, say: Callable[[str], None]):
        devices = gpus(ledger.study)
        self.ledger = ledger
        self.slots = slots
        self.worker = Worker(ledger, tuple(devices[k % len(devices)] for k in range(slots)) if devices else ())
        self.say = say
        self.failed: dict[str, str] = {}

    def run(self) -> Judgement:
        """Tune the arms. Continue until all are decided, the plan ends, or everything left has failed."""
        while True:
            judgement = judging.judge(self.ledger)
            look, left = judging.missing(self.ledger, judgement, self.failed)
            if not left:
                return judgement
            arms = ", ".join(dict.fromkeys(experiment.arm for experiment in left))
            self.say(f"{judging.aim(look, left)}: {arms}")
            self.complete(left)

    def complete(self, left: Sequence[Experiment]) -> None:
        """Run the experiments; try each failed one once more, after the others."""
        with ThreadPoolExecutor(self.slots) as pool, stopping(self.worker):
            self._complete(pool, left)

    def _complete(self, pool: ThreadPoolExecutor, left: Sequence[Experiment]) -> None:
        futures = {pool.submit(self.worker.run, experiment): experiment for experiment in left}
        begin, done = time.monotonic(), 0
        while futures:
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                experiment = futures.pop(future)
                name, again = experiment.name, experiment.name in self.failed
                try:
                    future.result()
                    self.ledger.update()
                    if reason := self.ledger.refused.get(name):  # another machine may have made it
                        raise UserError(reason)
                except Busy:  # somebody else's: ask again later
                    futures[pool.submit(self._later, experiment)] = experiment
                except UserError as error:
                    self.failed[name] = str(error)
                    self.say(f"failed: {error}; {'given up' if again else 'again later'}")
                    if not again:
                        futures[pool.submit(self.worker.run, experiment)] = experiment
                else:
                    self.failed.pop(name, None)
                    done += 1
                    rest = f"; {len(futures)} left, about {duration((time.monotonic() - begin) * len(futures) / done)}"
                    self.say(f"{name}: {self._score(experiment)}{rest if futures else ''}")

    def _score(self, experiment: Experiment) -> str:
        run, metric = self.ledger.records[experiment.name], self.ledger.study.plan.primary
        return "diverged" if run.diverged else f"{metric} {run.scores[metric]:.4g}"

    def _later(self, experiment: Experiment) -> None:
        self.worker.stopped.wait(POLL)
        self.worker.run(experiment)


@contextmanager
def stopping(worker: Worker) -> Iterator[None]:
    """On Ctrl-C or SIGTERM, end what runs with its state saved, and start nothing new."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        worker.stop()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def line(number: int, ledger: Ledger) -> None:
    """Run one experiment of the plan, by its number from 1, as a job of an array does.

    Raises UserError if there is no such experiment, its arm has to be tuned first, or it fails.
    """
    planned = ledger.study.lines()
    if not 1 <= number <= len(planned):
        raise UserError(f"--line: {number} is not an experiment of {ledger.study.path}; allowed: 1 to {len(planned)}")
    experiment, worker = planned[number - 1], Worker(ledger, gpus(ledger.study)[:1])
    with stopping(worker):
        worker.run(experiment, patience=math.inf)
    ledger.update()
    print(f"{experiment.name}: done")


def slots(given: int | None, study: Study) -> int:
    """How many experiments run at a time: those ``given``, or one per GPU or core."""
    return given or len(gpus(study)) or cores()


def gpus(study: Study) -> tuple[str, ...]:
    """The GPUs that a study's experiments may use, as CUDA_VISIBLE_DEVICES names them."""
    if {config.device for config in study.configs.values()} == {"cpu"}:
        return ()
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, visible.split(",")))
    return tuple(map(str, range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))))
