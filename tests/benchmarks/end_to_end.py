"""The pipeline as a user runs it: all of it, with nothing to do, and the start of a stage that needs no torch."""

import sys
from collections.abc import Iterator

from tests.benchmarks.harness import Bench, Case, Options, at_most_seconds

# exits with 1, which ``Project.run`` refuses, if torch was imported
START = "import sys, stages.preprocess; sys.exit('torch' in sys.modules)"


def benches(options: Options) -> Iterator[Bench]:
    project = options.pipeline
    whole = Case("end to end: dvc repro", "auto", project.repro, warm=False)
    yield Bench([whole], [], rounds=1)  # a second round would have nothing to do

    def start() -> None:
        project.run(sys.executable, "-c", START)

    idle = Case("end to end: dvc repro, nothing changed", "-", project.repro)
    torchless = Case("end to end: start of preprocess", "-", start)
    yield Bench([idle, torchless], [at_most_seconds(idle, 1), at_most_seconds(torchless, 0.5)])
