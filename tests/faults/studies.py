"""A study and an attempt on a ladder, killed at random moments: ``python -m tests.faults.studies [KILLS [SEED]]``.

Stages take no time (tests/study_project.py); the processes, locks and records around them are the real ones. The kills
hit the command, the process that forks, or a run. The same command, run again, has to leave the records of an unbroken
run and no process.
"""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import chdir, suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml

from ddpm.runs import record
from tests import command, study_project
from tests.ladder.test_ladder import BETTER, FILE, LOG, NOISE, SCORE

IDEA = Path("ideas/better.yaml")
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


class Way(NamedTuple):
    """What is killed: the words of the command, and its folder of results."""

    words: tuple[str, ...]
    results: Path

    def run(self) -> None:
        if code := command.run(*self.words):
            raise RuntimeError(f"{self.words}: exit code {code}")

    def records(self) -> dict[str, str]:
        return {path.name: record.read(path).text() for path in self.results.rglob("runs/*.json")}

    def kill(self, chosen: random.Random) -> str:
        """Start the command, and kill it or a process below it; returns what was hit, with a complaint if a process is
        left."""
        process = study_project.start(*self.words[2:], group=self.words[:2])
        family, number, place = [psutil.Process(process.pid)], chosen.choice(SIGNALS), chosen.randrange(3)
        while len(family) <= place and process.poll() is None:
            time.sleep(0.05)
            with suppress(psutil.NoSuchProcess):
                family[1:] = family[0].children(recursive=True)
        time.sleep(chosen.uniform(0, 2))
        if process.poll() is not None:
            return ""
        with suppress(psutil.NoSuchProcess):
            family[place].send_signal(number)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
        _, left = psutil.wait_procs(family[1:], timeout=60)
        return f"{number.name} to {('the command', 'the process that forks', 'a run')[place]}" + ": LEFT" * bool(left)


WAYS = (
    Way(("study", "run", str(study_project.PLAN), "--slots", "2"), study_project.RESULTS),
    Way(("ladder", "try", FILE.stem, str(IDEA), "--slots", "2"), LOG.parent / "attempts"),
)


def lay_out() -> None:
    """The project with a study of 12 runs and a ladder."""
    study_project.make(Path())
    stage = Path("stages/__main__.py")
    before, _, after = stage.read_text().partition("    score = ")
    stage.write_text(f"{before}{NOISE[1:]}{after.partition(chr(10))[2]}")
    study_project.PLAN.write_text(study_project.STUDY.replace("[2]", "[6]"))
    for path, value in ((FILE, SCORE), (IDEA, BETTER)):
        path.parent.mkdir()
        path.write_text(yaml.safe_dump(value))
    study_project.commit("a study and a ladder")


def main(kills: int = 20, seed: int = 0) -> int:
    """Print each kill and what was lost; returns the number of losses."""
    chosen, hits, losses = random.Random(seed), 0, list[str]()  # noqa: S311
    os.environ["DDPM_TRACKING"] = "off"
    for way in WAYS:
        with tempfile.TemporaryDirectory(prefix="ddpm-kills-") as folder, chdir(folder):
            lay_out()
            sleep = Path("control/sleep")
            sleep.write_text("1.5")
            for _ in range(kills // len(WAYS)):
                if hit := way.kill(chosen):
                    hits += 1
                    print(f"{' '.join(way.words[:2])}: {hit}", flush=True)
                    losses += [hit] * hit.endswith("LEFT")
            sleep.unlink()
            way.run()
            killed, ends = way.records(), LOG.read_text() if LOG.exists() else ""
            shutil.rmtree(way.results)
            shutil.rmtree(".ddpm")
            if ends:  # an attempt has the seeds that it drew
                LOG.write_text("".join(line for line in ends.splitlines(True) if "of" not in json.loads(line)))
            way.run()
            # what runs when an attempt is decided is stopped, and the kills decide what that is
            whole = way.records()
            both = killed.keys() & whole.keys()
            losses += [name for name in both if killed[name] != whole[name]]
            losses += ["the log"] * (ends != (LOG.read_text() if LOG.exists() else ""))
            print(
                f"{' '.join(way.words[:2])}: {len(both)} records of {len(whole)} compared, lost: {losses or 'nothing'}"
            )
    print(f"{hits} kills")
    return len(losses)


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
