"""Kill the pipeline, run it again, and see what is lost. Nothing may be.

make faults                                      # all of it: 200 kills, hours on a busy machine
python -m tests.faults repro --kills 6           # one run that is killed in each stage
"""

import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import cyclopts

from ddpm.base.files import write_json
from tests.faults import kills as trials
from tests.faults.kills import Trial
from tests.faults.project import Victim

SHARES = {"repro": 0.5, "late": 0.25, "ranks": 0.25}  # of the kills
app = cyclopts.App(name="python -m tests.faults")


@app.default
def main(
    *families: Literal["repro", "late", "ranks"],
    kills: int = 200,
    seed: int = 0,
    patience: float = 1.0,
    out: Path = Path("faults"),
) -> None:
    """Kill the pipeline, run it again, and exit with 1 if anything was lost. Writes faults.json after every trial.

    Args:
        families: the ways to run the pipeline (late: only its last three stages); all of them by default
        kills: their number in all
        seed: of the moments, signals and offsets
        patience: multiplies the seconds allowed; 10 suits a machine that others keep busy
        out: the folder of faults.json
    """
    scratch = Path(tempfile.mkdtemp(prefix="ddpm-faults-", dir="/var/tmp"))
    done: list[Trial] = []
    try:
        for life in all_trials(list(families or SHARES), kills, seed, scratch, patience):
            done += life
            write_json(out / "faults.json", [trial._asdict() for trial in done])
            for trial in life:
                print(f"{trial.family}: {trial.fault} in {trial.where}: {'; '.join(trial.lost) or 'ok'}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for fault, kind in itertools.groupby(sorted(done), lambda trial: trial[:2]):
        same = list(kind)
        recovery = statistics.median(trial.recovery or 0.0 for trial in same)
        lost, by_hand = (sum(map(bool, column)) for column in zip(*((t.lost, t.by_hand) for t in same), strict=True))
        print(f"{', '.join(fault)}: {len(same)} tried, {lost} lost, {by_hand} by hand, {recovery:.1f} s to recover")
    sys.exit(any(trial.lost for trial in done))


def all_trials(chosen: list[str], number: int, seed: int, scratch: Path, patience: float) -> Iterator[list[Trial]]:
    """A family that cannot continue is a trial that lost everything; the others still run."""
    whole = sum(SHARES[family] for family in chosen)
    for family in chosen:
        generator = random.Random(f"{seed} {family}")  # noqa: S311
        try:
            yield from of_way(family, round(number * SHARES[family] / whole), scratch, patience, generator)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            yield [Trial(family, "none: the harness could not go on", "", (f"{type(error).__name__}: {error}",))]


def of_way(family: str, wanted: int, scratch: Path, patience: float, generator: random.Random) -> Iterator[list[Trial]]:
    """Lives until that many kills have struck."""
    way = trials.WAYS[family]
    start = Victim(scratch / f"{family}-start", way.changes, patience)
    whole = start.copy(scratch / f"{family}-whole")
    reference = trials.uninterrupted(whole)
    shutil.rmtree(whole.folder)
    if way.stages == trials.LATE:
        start.run("dvc", "repro", "reference")
    done = number = 0
    while done < wanted:
        number += 1
        found = trials.life(start, scratch / f"{family}-{number}", way, reference, generator)
        done += len(found)
        yield found


if __name__ == "__main__":
    app()
