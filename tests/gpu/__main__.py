"""The first hour on a GPU, in ten minutes: what must hold, then training steps against other libraries.

    make gpu
    python -m tests.gpu [--device cuda] [--quick] [--minutes 10] [--out docs/gpu.json]

It installs nothing: a library that is not there is left out, and the file says so. ``make gpu ARGS='--device cpu
--quick'`` runs the same code on tiny networks. Nothing that fails stops anything else: the file has each case's
figures, or its error and traceback, and is written after each, so that whoever gets it can repair what failed.
"""

import argparse
import contextlib
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import torch

from ddpm.base.errors import UserError, exit_code
from ddpm.compute import devices
from tests.benchmarks import harness, table
from tests.gpu import checks, work
from tests.gpu.report import Report

ROOT = Path(__file__).parents[2]
OUT = Path("docs/gpu.json")
LIBRARIES = ("torch", "triton", "numpy", "schedulefree", "torchvision", "torch-fidelity", "diffusers",
             "denoising-diffusion-pytorch", "nvidia-nccl-cu13", "nvidia-cudnn-cu13")  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=OUT)
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> None:
    """Raises UserError without such a device, or if a case fails."""
    end = time.monotonic() + 60 * parsed.minutes
    device, results = devices.resolve(parsed.device), harness.Results()
    report = Report(parsed.out.absolute(), {"machine": table.describe(device), "versions": versions(device)})
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        for check in checks.CHECKS:
            report.run(check.__name__, check(device, Path(scratch)))
        report.run("stages", work.stages(device, Path(scratch)))
    report.run("profile", work.profile(device, parsed.quick))
    report.run("benchmark", work.benchmark(device, parsed.quick, end, results))
    print("", table.table(results), "", report.path, sep="\n")
    if failures := report.failures():
        raise UserError(f"make gpu: {len(failures)} cases failed, first {failures[0]}; {report.path} has their errors")


def versions(device: torch.device) -> dict:
    """The libraries, CUDA's parts, and the commit of this code."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    about = {**found, "commit": commit.stdout.strip(), "platform": platform.platform(), "cuda": torch.version.cuda}
    if device.type == "cuda":
        ask = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit", "--format=csv"]
        with contextlib.suppress(OSError):
            about["nvidia-smi"] = subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout
        about |= {"cudnn": torch.backends.cudnn.version(), "gpus": torch.cuda.device_count()}
        about["capability"] = torch.cuda.get_device_capability(device)
    return about | {name: value for name, value in os.environ.items() if name.startswith(("CUDA_", "NCCL_", "OMP_"))}


if __name__ == "__main__":
    main()
