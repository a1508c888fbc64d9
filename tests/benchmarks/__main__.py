"""Time this project against its peers; print one table and write docs/bench.json.

    make bench    # the training step, on a quiet machine; the only call that writes docs/bench.json
    python -m tests.benchmarks [train | target] [--quick] [--device DEVICE]

target takes hours. Peers come with ``pip install -c constraints.txt -e '.[dev,peers]'``. Cases use all cores; a stage
uses what it would.
"""

import argparse
import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from ddpm.base.errors import exit_code
from ddpm.base.files import write_json
from ddpm.compute import devices
from tests.benchmarks import harness, table, target, train

TOPICS = {"train": train, "target": target}
QUICK_ROUNDS = 3
OUT = Path("docs/bench.json")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topic", nargs="?", choices=TOPICS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    sys.exit(exit_code(partial(run, **vars(parser.parse_args(arguments)))))


def run(topic: str | None, quick: bool, device: str) -> None:
    chosen = TOPICS[topic or "train"]
    torch.set_num_threads(os.cpu_count() or 1)  # the peers use all cores too
    with tempfile.TemporaryDirectory() as scratch:
        options = harness.Options(quick, Path(scratch), devices.resolve(device))
        results = harness.measure(chosen.cases(options), QUICK_ROUNDS if quick else chosen.ROUNDS)
    described = table.describe(options.device)
    print(", ".join(f"{name} {value}" for name, value in described.items()), end="\n\n")
    print(table.table(results))
    if not quick and topic is None:
        write_json(OUT, {"machine": described, **table.record(results)})
        print(f"\n{OUT}")


if __name__ == "__main__":
    main()
