"""A study as a Slurm array: the job script, filled in."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.study import judging, slots
from ddpm.study.ledger import Ledger

SLACK = 2  # times the mean of the study's finished experiments, which knows neither the node nor its neighbours
LEAST = 10  # minutes: seven processes have to start, and the data to be made
# Before the time limit Slurm sends USR1, and the job goes back to the queue. scancel sends TERM, and then it must not.
# A shell runs a trap as soon as `wait` returns, so it waits in a way that signals interrupt.
SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name} --array={lines} --cpus-per-task=1 --time={hours:02d}:{minutes:02d}:00
#SBATCH --requeue --signal=B:USR1@60 --chdir={folder}
#SBATCH --open-mode=append --output={log}
stop() {{ kill -TERM "$run"; wait "$run"; }}  # a training saves its state
trap 'stop; scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; exit' USR1
trap 'stop; exit 143' TERM
{ddpm} study run {plan} --line "$SLURM_ARRAY_TASK_ID" & run=$!
wait "$run"
"""


def script(ledger: Ledger, limit: float | None) -> str:
    """The job script for the experiments that come next: those for tuning, or up to the next look.

    limit: minutes that a job may take; None: by the experiments that are finished. Raises UserError if nothing is left,
    or the time is not known.
    """
    study = ledger.study
    _, left = judging.missing(ledger, judging.judge(ledger))
    names = {experiment.name for experiment in left}
    if not names:
        raise UserError(f"{study.path}: no experiment is missing; `ddpm study verdict {study.path}` prints the verdict")
    if limit is None:
        if ledger.seconds is None:
            raise UserError("--time: missing, and how long an experiment takes is not known until one is finished")
        limit = max(LEAST, SLACK * ledger.seconds / 60)
    hours, minutes = divmod(math.ceil(limit), 60)
    return SCRIPT.format(
        name=study.name,
        lines=ranges(number for number, experiment in enumerate(ledger.study.lines(), 1) if experiment.name in names),
        hours=hours,
        minutes=minutes,
        folder=shlex.quote(str(Path.cwd())),
        log=slots.state(study) / "slurm-%a.txt",
        ddpm=shlex.quote(str(Path(sys.executable).with_name("ddpm"))),
        plan=shlex.quote(str(study.path)),
    )


def ranges(numbers: Iterable[int]) -> str:
    """Ascending whole numbers as Slurm writes them, such as 1-3,7."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
