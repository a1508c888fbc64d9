"""Results for people and for programs."""

import platform

import psutil
import torch

from ddpm.compute import devices
from tests.benchmarks.harness import Results


def describe(device: torch.device) -> dict:
    """What the figures depend on."""
    return {
        "device": devices.processor(device), "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def table(results: Results) -> str:
    """What was measured."""
    lines = [["what", "precision", "median", "quartiles", "images/s", "GFLOP/s"]]
    for case, seconds in ((timing.case, timing.seconds) for timing in results.values()):
        quartiles = f"{_seconds(seconds['low'])} to {_seconds(seconds['high'])}"
        images = f"{case.items / seconds['median']:,.1f}" if case.items > 1 else ""
        flops = f"{case.flops / 1e9 / seconds['median']:,.1f}" if case.flops else ""
        lines.append([case.name, case.precision, _seconds(seconds["median"]), quartiles, images, flops])
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    rows = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def record(results: Results) -> dict:
    """The same as values for JSON."""
    return {
        "timings": {
            key: {
                "seconds": timing.seconds, "items": timing.case.items, "flops": timing.case.flops,
                "items_per_second": timing.items_per_second, "samples": len(timing.samples),
            }
            for key, timing in results.items()
        }
    }  # fmt: skip


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
