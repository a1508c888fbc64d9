"""Scoring: what the reference costs once, what each variant costs, and how many real images are extracted again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from ddpm.data.processed import read_manifest
from ddpm.params import config
from tests.benchmarks.harness import Bench, Case, Goal, Options, Spread


def benches(options: Options) -> Iterator[Bench]:
    project = options.pipeline
    project.repro()
    count = config.load(project.folder / "params.yaml").sample.count
    train = read_manifest(project.folder / "data/processed").counts["train"]
    seen: dict[str, list[int]] = {"reference": [], "evaluate": []}

    def run(stage: str) -> Callable[[], None]:
        def extracting() -> None:
            output = project.run(sys.executable, "-m", "tests.benchmarks.extracted", stage, tracked=False)
            seen[stage].append(int(output.splitlines()[-1]))

        return extracting

    def images(case: Case, stage: str, bound: int, at_most: bool) -> Goal:
        what = f"{case.name}: real train images extracted"
        return Goal(what, "-", lambda _: Spread.of(seen[stage]), bound, (case.key,), "images", at_most)

    once = Case("scoring: the reference, once", "float32", run("reference"), train, warm=False)
    each = Case("scoring: each variant", "float32", run("evaluate"), count, warm=False)
    # the first case shows that the count works
    goals = [images(once, "reference", train, at_most=False), images(each, "evaluate", 0, at_most=True)]
    yield Bench([once, each], goals, rounds=1 if options.quick else 3)
