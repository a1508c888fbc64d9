"""Kill the pipeline, run it again, and see what is lost. Nothing may be.

    make faults                                      # all of it: 200 kills, hours on a busy machine
    python -m tests.faults [FAMILY ...] [--kills N] [--seed N] [--patience X] [--scratch FOLDER] [--out FOLDER]

    python -m tests.faults repro --kills 6           # one run that is killed in each stage

Families: repro late temp queue ranks, the ways to run the pipeline (late: only its last three stages). --kills is
their number in all. --patience 10 suits a machine that others keep busy: what may take a minute on a quiet one, may
then take ten.

Writes faults.json to --out after every trial; the exit code is 1 when anything was lost.
"""

import argparse
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ddpm.base.errors import UserError, exit_code
from ddpm.base.files import write_json
from tests.faults import kills
from tests.faults.kills import Trial
from tests.faults.project import Victim

SHARES = {"repro": 0.3, "late": 0.2, "temp": 0.2, "queue": 0.1, "ranks": 0.2}  # of the kills


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(SHARES))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the moments, signals and offsets (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path("/var/tmp"), help="(%(default)s)")  # noqa: S108
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds allowed (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("faults"), help="(%(default)s)")
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> int:
    chosen = parsed.families or list(SHARES)
    if unknown := [family for family in chosen if family not in SHARES]:
        raise UserError(f"family: unknown {unknown[0]!r}; allowed: {', '.join(SHARES)}")
    scratch = Path(tempfile.mkdtemp(prefix="ddpm-faults-", dir=parsed.scratch))
    trials: list[Trial] = []
    try:
        for found in all_trials(chosen, parsed.kills, parsed.seed, scratch, parsed.patience):
            trials += found
            write_json(parsed.out / "faults.json", [trial._asdict() for trial in trials])
            for trial in found:
                print(f"{trial.family}: {trial.fault} in {trial.where}: {'; '.join(trial.lost) or 'ok'}", flush=True)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for fault, kind in itertools.groupby(sorted(trials), lambda trial: trial[:2]):
        same = list(kind)
        recovery = statistics.median(trial.recovery or 0.0 for trial in same)
        lost, by_hand = (sum(map(bool, column)) for column in zip(*((t.lost, t.by_hand) for t in same), strict=True))
        print(f"{', '.join(fault)}: {len(same)} tried, {lost} lost, {by_hand} by hand, {recovery:.1f} s to recover")
    return 1 if any(trial.lost for trial in trials) else 0


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
    way = kills.WAYS[family]
    start = Victim(scratch / f"{family}-start", way.changes, patience)
    whole = start.copy(scratch / f"{family}-whole")
    reference = kills.uninterrupted(whole)
    shutil.rmtree(whole.folder)
    if way.stages == kills.LATE:
        start.run("dvc", "repro", "reference")
    done = number = 0
    while done < wanted:
        number += 1
        found = kills.life(start, scratch / f"{family}-{number}", way, reference, generator)
        done += len(found)
        yield found


if __name__ == "__main__":
    main()
