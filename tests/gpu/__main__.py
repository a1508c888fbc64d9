"""The first hour on a GPU, in ten minutes: what must hold, then how long training steps take.

    make gpu
    python -m tests.gpu [--device cuda] [--quick] [--out docs/gpu.json]

It installs nothing. ``make gpu ARGS='--device cpu --quick'`` runs the same code on tiny networks. Nothing that fails
stops anything else: the file has each case's figures, or its error and traceback, and is written after each, so that
whoever gets it can repair what failed.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from importlib import metadata
from pathlib import Path

import torch

from ddpm.base.errors import UserError, exit_code
from ddpm.compute import devices
from tests.benchmarks import table
from tests.gpu import checks, work
from tests.gpu.checks import Cases
from tests.gpu.report import Figures, LeftOut, Report

ROOT = Path(__file__).parents[2]
OUT = Path("docs/gpu.json")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> None:
    """Raises UserError without such a device, or if a case fails."""
    device = devices.resolve(parsed.device)
    report = Report(parsed.out.absolute())
    report.run("about", about(device))
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for check in checks.CHECKS:
            report.run(check.__name__, check(device, Path(scratch)))
        report.run("stages", work.stages(device, Path(scratch)))
    report.run("benchmark", work.benchmark(device, parsed.quick))
    print(report.path)
    if failures := report.failures():
        raise UserError(f"make gpu: {len(failures)} cases failed, first {failures[0]}; {report.path} has their errors")


def about(device: torch.device) -> Cases:
    """The machine, the commit of this code, and the versions of libraries and of CUDA's parts."""

    def call(*command: str) -> Figures:
        if not shutil.which(command[0]):
            raise LeftOut(f"no {command[0]} here")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        return {"exit code": done.returncode, "output": done.stdout + done.stderr}

    libraries = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    names = ("CUDA_", "NCCL_", "OMP_", "TORCH")
    yield "machine", lambda: {**table.describe(device), "platform": platform.platform(), **libraries}
    yield "environment", lambda: {name: value for name, value in os.environ.items() if name.startswith(names)}
    yield "libraries", lambda: {each.name: each.version for each in metadata.distributions()}
    yield "commit", partial(call, "git", "describe", "--always", "--dirty")
    yield "driver", partial(call, "nvidia-smi")


if __name__ == "__main__":
    main()
