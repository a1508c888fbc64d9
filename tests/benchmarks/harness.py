"""Timing: round robin, medians and quartiles.

Cases to compare take turns in one process, one sample each per round, and each round starts with another case. So
whatever heats, throttles or fills the machine affects all of them alike.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm, trange


@dataclass(frozen=True)
class Options:
    """The command line. scratch: a folder that is removed in the end."""

    quick: bool
    scratch: Path
    device: torch.device


@dataclass(frozen=True)
class Case:
    """Something to time.

    run: one call; if its start-up does not count, it returns the seconds that do. items: images that a call handles.
    flops: floating-point operations of a call, 0 if they mean nothing. least_seconds: calls are repeated until a sample
    lasts as long. warm: whether to call once before the first sample.
    """

    name: str
    precision: str
    run: Callable[[], float | None]
    items: int = 1
    flops: float = 0.0
    least_seconds: float = 0.3
    warm: bool = True

    @property
    def key(self) -> str:
        return f"{self.name} [{self.precision}]"


@dataclass(frozen=True)
class Timing:
    """A case and the seconds of a call, one for each round."""

    case: Case
    samples: tuple[float, ...]

    @property
    def seconds(self) -> dict[str, float]:
        """Quartiles and median."""
        return dict(zip(("low", "median", "high"), np.quantile(self.samples, [0.25, 0.5, 0.75]).tolist(), strict=True))

    @property
    def items_per_second(self) -> float:
        return self.case.items / self.seconds["median"]


Results = dict[str, Timing]  # by the case's key


def measure(cases: Sequence[Case], rounds: int) -> Results:
    """Time ``cases`` against each other, each ``rounds`` times."""
    calls = [_calls(case) for case in tqdm(cases, "warming up", leave=False)]
    samples: list[list[float]] = [[] for _ in cases]
    for shift in trange(rounds, desc="rounds", leave=False):
        for place in range(len(cases)):
            chosen = (place + shift) % len(cases)
            started = perf_counter()
            own = [cases[chosen].run() for _ in range(calls[chosen])]
            wall = perf_counter() - started
            counted = [seconds for seconds in own if seconds is not None]
            samples[chosen].append((sum(counted) if counted else wall) / calls[chosen])
    return {case.key: Timing(case, tuple(found)) for case, found in zip(cases, samples, strict=True)}


def _calls(case: Case) -> int:
    """Warm up; return how many calls make a sample of ``case.least_seconds``, 1 if a call keeps its own time."""
    if not case.warm:
        return 1
    for _ in range(2):  # the first call pays for one-time set-up; if it is short all the same, a second one shows it
        started = perf_counter()
        if case.run() is not None:
            return 1
        seconds = perf_counter() - started
        if seconds > 3 * case.least_seconds:
            return 1
    return max(1, math.ceil(case.least_seconds / max(seconds, 1e-6)))


def network_flops(network: nn.Module, shape: tuple[int, int, int]) -> float:
    """FLOPs of one image's forward and backward pass through ``network(x_t, t)``, as its layers define it; attention
    counts as the products that define it.

    Counted without a device: what a device's kernels save counts as speed, not as less work.
    """
    outline = copy.deepcopy(network).to("meta").eval()  # dropout needs no products
    x_t, t = torch.randn(1, *shape, device="meta"), torch.ones(1, dtype=torch.long, device="meta")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        output = outline(x_t, t)
        (output if isinstance(output, Tensor) else output.sample).sum().backward()  # diffusers' networks wrap theirs
    return float(counter.get_total_flops())


def synchronize(device: torch.device) -> None:
    """Wait for the device; a CPU never lags behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
