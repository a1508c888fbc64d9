"""Results for people and for programs."""

import math
import platform

import psutil
import torch

from ddpm.compute import devices
from tests.benchmarks.harness import PEAKS, Results


def describe(device: torch.device) -> dict:
    """What the figures depend on."""
    return {
        "device": devices.processor(device), "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(),
    }  # fmt: skip


def table(results: Results) -> str:
    """What was measured."""
    timings = list(results.values())
    lines = [["what", "precision", "median", "quartiles", "images/s", "GFLOP/s", "of peak"]]
    for timing in timings:
        case, seconds = timing.case, timing.seconds
        # of the fastest kernel measured in the same precision
        peaks = [t for t in timings if t.case.name in PEAKS and t.case.precision == case.precision]
        share = timing.flops_per_second / max((each.flops_per_second for each in peaks), default=math.nan)
        lines.append(
            [
                case.name, case.precision, _seconds(seconds["median"]),
                f"{_seconds(seconds['low'])} to {_seconds(seconds['high'])}",
                f"{timing.items_per_second:,.1f}" if case.items > 1 else "",
                f"{timing.flops_per_second / 1e9:,.1f}" if case.flops else "",
                f"{share:.0%}" if case.flops and math.isfinite(share) else "",
            ]
        )  # fmt: skip
    widths = [max(len(row[i]) for row in lines) for i in range(len(lines[0]))]
    head, *body = [
        "| " + " | ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)) + " |" for row in lines
    ]
    return "\n".join([head, "| " + " | ".join("-" * width for width in widths) + " |", *body])


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
