"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it; or let Slurm
run it, as an array."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.machine import cores
from ddpm.base.progress import duration
from ddpm.study import judging
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment, Study
from ddpm.study.slots import logs
from ddpm.study.worker import Busy, Worker
from ddpm.verdicts.comparison import Judgement

# Before the time limit Slurm sends USR1, and the job goes back to the queue. scancel sends TERM, and then it must not.
# A shell runs a trap as soon as `wait` returns, so it waits in a way that signals interrupt.
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name} --array={lines} --cpus-per-task=1 --time={minutes}
#SBATCH --requeue --signal=B:USR1@60 --chdir={folder}
#SBATCH --open-mode=append --output={log}
stop() {{ kill -TERM "$run"; wait "$run"; }}  # a training saves its state
trap 'stop; scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; exit' USR1
trap 'stop; exit 143' TERM
{ddpm} study run {plan} --line "$SLURM_ARRAY_TASK_ID" & run=$!
wait "$run"
"""


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
            self.say(f"{judging.aim(look, len(left))}: {arms}")
            self.complete(left)

    def complete(self, left: Sequence[Experiment]) -> None:
        """Run the experiments; try each failed one once more, after the others."""
        metric, begin, done = self.ledger.study.plan.primary, time.monotonic(), 0
        with ThreadPoolExecutor(self.slots) as pool, stopping(self.worker):
            futures = {pool.submit(self.worker.run, experiment): experiment for experiment in left}
            while futures:
                for future in wait(futures, return_when=FIRST_COMPLETED).done:
                    experiment = futures.pop(future)
                    name, again = experiment.name, experiment.name not in self.failed
                    try:
                        run = future.result()
                    except Busy:  # it has waited a moment for somebody else; after those that need not wait
                        futures[pool.submit(self.worker.run, experiment)] = experiment
                    except UserError as error:
                        self.failed[name] = str(error)
                        self.say(f"failed: {error}; {'again later' if again else 'given up'}")
                        if again:
                            futures[pool.submit(self.worker.run, experiment)] = experiment
                    else:
                        self.failed.pop(name, None)
                        done += 1
                        score = "diverged" if run.diverged else f"{metric} {run.scores[metric]:.4g}"
                        rest = duration((time.monotonic() - begin) * len(futures) / done)
                        self.say(f"{name}: {score}" + f"; {len(futures)} left, about {rest}" * bool(futures))


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


def script(ledger: Ledger, limit: float) -> str:
    """The job script for the experiments that come next: those for tuning, or up to the next look.

    limit: minutes that a job may take. Raises UserError if nothing is left.
    """
    study = ledger.study
    _, left = judging.missing(ledger, judging.judge(ledger))
    names = {experiment.name for experiment in left}
    if not names:
        raise UserError(f"{study.path}: no experiment is missing; `ddpm study verdict {study.path}` prints the verdict")
    return SCRIPT.format(
        name=study.name,
        lines=",".join(str(line) for line, one in enumerate(study.lines(), 1) if one.name in names),
        minutes=math.ceil(limit),
        folder=shlex.quote(str(Path.cwd())),
        log=logs(study) / "slurm-%a.txt",
        ddpm=shlex.quote(str(Path(sys.executable).with_name("ddpm"))),
        plan=shlex.quote(str(study.path)),
    )
