"""Commands that read a thousand finished runs: this project's own run, with other seeds and schedules."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ddpm.base import variant
from ddpm.compare.snapshots import FILES
from ddpm.params import config, file
from tests import scored
from tests.benchmarks.harness import Bench, Case, Options, at_most_seconds
from tests.benchmarks.project import ROOT

SCHEDULES = variant.names("schedules")[:10]
# the entries of dvc.lock for what another seed makes differently
MADE = re.compile(r"(- path: data/(?:model|samples|evaluation)\b.*\n +hash: md5\n +md5: )(\w+)")


@dataclass(frozen=True)
class Again(scored.Experiment):
    """The run whose metrics are in git, as it would be with another seed and schedule: files of the same size, with as
    much in common."""

    seed: int = 0
    schedule: str = "cosine"

    def contents(self) -> dict[str, str]:
        texts = {path: (ROOT / path).read_bytes().decode() for path in FILES}  # CSV files end lines by \r\n
        scores, lock = texts["metrics/evaluate.json"], texts["dvc.lock"]
        changed = re.sub(r'"fd": .*,', f'"fd": {self.fd},', scores, count=1)
        lock = lock.replace(scored.md5(scores), scored.md5(changed))
        lock = MADE.sub(lambda entry: entry[1] + scored.md5(f"{self.name} {entry[2]}"), lock)
        texts |= {"metrics/evaluate.json": changed, "dvc.lock": lock}
        for path in ("params.yaml", "dvc.lock"):
            text = re.sub(r"(?m)(^| )seed: 0\b", rf"\g<1>seed: {self.seed}", texts[path])
            text = re.sub(r"(\bschedule:\s+name: )cosine", rf"\g<1>{self.schedule}", text)
            texts[path] = text.replace("schedules/cosine.py", f"schedules/{self.schedule}.py")
        facts = texts["metrics/train.json"]
        trained = config.check(file.decode(texts["params.yaml"], "params.yaml")).training()
        texts["metrics/train.json"] = re.sub(r'"config": "\w+"', f'"config": "{trained.identity()}"', facts)
        texts["dvc.lock"] = texts["dvc.lock"].replace(scored.md5(facts), scored.md5(texts["metrics/train.json"]))
        return texts


def record(folder: Path, count: int) -> None:
    """Make the folder a git repository with ``count`` experiments, and the project's own run as the working files."""
    seeds = range(count // len(SCHEDULES))
    made = [
        Again(f"{schedule}-{seed}", 0.2 + 0.01 * number + 0.01 * (seed % 7), seed=seed, schedule=schedule)
        for number, schedule in enumerate(SCHEDULES)
        for seed in seeds
    ]
    folder.mkdir()
    Again("here").write(folder)
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    scored.record(folder, made)


def benches(options: Options) -> Iterator[Bench]:
    folder, count = options.scratch / "runs", 20 if options.quick else 1000
    record(folder, count)

    def ddpm(*arguments: str) -> None:
        command = [sys.executable, "-c", "from ddpm.cli import main; main()", *arguments]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)

    compare = Case(f"ddpm compare, {count:,} runs", "-", lambda: ddpm("compare", "--by", "diffusion.schedule.name"))
    listing = Case(f"ddpm runs, {count:,} runs", "-", lambda: ddpm("runs"))
    yield Bench([compare, listing], [at_most_seconds(compare, 3)], rounds=5)
