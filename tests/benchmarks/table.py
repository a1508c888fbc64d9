"""Results for people and for programs."""

import math
import platform
from collections.abc import Sequence

import psutil
import torch

from ddpm.compute import devices
from tests.benchmarks.harness import Results


def describe(device: torch.device) -> dict:
    """What the figures depend on."""
    return {
        "device": devices.processor(device),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def table(results: Results) -> str:
    """What was measured."""
    timings = list(results.timings.values())
    lines = [[
        "what", "precision", "median", "quartiles", "images/s", "GFLOP/s", "of peak",
    ]]  # fmt: skip
    for timing in timings:
        case, spread = timing.case, timing.seconds
        share = timing.flops_per_second / results.peak(case.precision)
        lines.append(
            [
                case.name,
                case.precision,
                _seconds(spread.median),
                f"{_seconds(spread.low)} to {_seconds(spread.high)}",
                f"{timing.items_per_second:,.1f}" if case.items > 1 else "",
                f"{timing.flops_per_second / 1e9:,.1f}" if case.flops else "",
                f"{share:.0%}" if case.flops and math.isfinite(share) else "",
            ]
        )
    return _markdown(lines)


def record(results: Results) -> dict:
    """The same as values for JSON."""
    return {
        "timings": {
            key: {
                "seconds": timing.seconds._asdict(),
                "items": timing.case.items,
                "flops": timing.case.flops,
                "items_per_second": timing.items_per_second,
                "samples": len(timing.samples),
            }
            for key, timing in results.timings.items()
        }
    }


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])
