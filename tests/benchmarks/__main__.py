"""Time this project against its peers; print one table and write docs/bench.json.

    make bench    # all topics, on a quiet machine; the only call that writes docs/bench.json unasked
    python -m tests.benchmarks [TOPIC ...] [--quick] [--only REGEX] [--rounds N] [--device DEVICE] [--out FILE]

Topics: train; and target, which takes hours and runs only if it is named. --only keeps the cases in whose name, such as
``article: ours [float32]``, the pattern is found.
Peers come with ``pip install -c constraints.txt -e '.[dev,peers]'``. Cases use all cores; a stage uses what it would.
"""

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

import torch

from ddpm.base.errors import UserError, exit_code
from ddpm.base.files import write_json
from ddpm.compute import devices
from tests.benchmarks import harness, table

TOPICS = ("train",)
NAMED = ("target",)  # topics that run only if they are named: hours
QUICK_ROUNDS = 3
OUT = Path("docs/bench.json")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=", ".join(TOPICS + NAMED))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", metavar="REGEX")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help=f"JSON ({OUT} after all topics, else none)")
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> None:
    if unknown := [topic for topic in parsed.topics if topic not in TOPICS + NAMED]:
        raise UserError(f"topic: unknown {unknown[0]!r}; allowed: {', '.join(TOPICS + NAMED)}")
    device = devices.resolve(parsed.device)
    torch.set_num_threads(os.cpu_count() or 1)  # the peers use all cores too
    results: harness.Results = {}
    with tempfile.TemporaryDirectory() as scratch:
        options = harness.Options(parsed.quick, Path(scratch), device)
        for topic in parsed.topics or TOPICS:
            module = importlib.import_module(f"tests.benchmarks.{topic}")
            for bench in module.benches(options):
                chosen = bench.only(parsed.only) if parsed.only else bench
                rounds = parsed.rounds or (min(QUICK_ROUNDS, bench.rounds) if parsed.quick else bench.rounds)
                results |= harness.measure(chosen.cases, rounds)
    described = table.describe(device)
    print(", ".join(f"{name} {value}" for name, value in described.items()), end="\n\n")
    print(table.table(results))
    partial = parsed.quick or parsed.only or parsed.topics
    out = parsed.out or (None if partial else OUT)
    if out:
        write_json(out, {"machine": described, **table.record(results)})
        print(f"\n{out}")


if __name__ == "__main__":
    main()
