"""UniPC: a multistep predictor, and a corrector of the next order, with one evaluation per step. Zhao et al. 2023
(arXiv:2302.04867), in the form that predicts x_0, with B(h) = exp(h) - 1 (bh2)."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import Field

from ddpm.base.tensor import Tensor
from ddpm.diffusion.variance import Variance
from ddpm.sampling.sampler import Chain, Denoise, Level, Noise, Sampler, levels

# another evaluation: its distance in log_ratio from the start of the step, in step widths, and its x_0
Node = tuple[float, "Tensor"]


class UniPC(Sampler):
    """Deterministic. ``order`` is the order p of the predictor UniP-p; the corrector UniC-p raises it to p + 1.

    The corrector reuses the evaluation at the predicted x, so each x is corrected one step later, and the image, the
    result of the last step, is not. The yielded x are the predicted ones. The order is lower in the first p and the
    last p steps.
    """

    order: Annotated[int, Field(ge=1, le=3)] = 2

    def steps(self, denoise: Denoise, x_T: Tensor, chain: Chain, noise: Noise, variance: Variance) -> Iterator[Tensor]:
        path = levels(chain.schedule)
        x = corrected = x_T
        history: list[tuple[float, Tensor]] = []  # log_ratio and x_0 of the evaluations, newest first
        nodes: list[Node] = []
        for step, (start, end) in enumerate(pairwise(path)):
            x_0 = denoise(x, start.t).x_0
            if step > 0:
                corrected = advance(corrected, history[0][1], [*nodes, (1.0, x_0)], path[step - 1], start)
            h = end.log_ratio - start.log_ratio
            order = min(self.order, len(path) - 1 - step)
            nodes = [
                ((log_ratio - start.log_ratio) / h, earlier)
                for log_ratio, earlier in history[: order - 1]
                if math.isfinite(log_ratio)  # x_0 at zero SNR cannot be interpolated in log_ratio
            ]
            history = [(start.log_ratio, x_0), *history[: self.order - 1]]
            x = advance(corrected, x_0, nodes, start, end)
            yield x


def advance(x: Tensor, x_0: Tensor, nodes: list[Node], start: Level, end: Level) -> Tensor:
    """x at ``end`` from x and x_0 at ``start`` and the x_0 of ``nodes``."""
    h = end.log_ratio - start.log_ratio
    decay = math.expm1(-h)
    drift = x_0
    for (distance, other), weight in zip(nodes, weights([distance for distance, _ in nodes], h), strict=True):
        drift = drift + weight / distance * (other - x_0)
    return end.sigma / start.sigma * x - end.signal * decay * drift


def weights(distances: list[float], h: float) -> list[float]:
    """The a_1..a_q that make the step exact if x_0 is a polynomial in log_ratio; for one node, the paper's 1/2."""
    if len(distances) < 2:
        return [0.5] * len(distances)
    phi, moments = math.expm1(-h), []
    for power in range(1, len(distances) + 1):
        phi = phi / -h - 1 / math.factorial(power)
        moments.append(phi * math.factorial(power) / math.expm1(-h))
    return np.linalg.solve(np.vander(distances, increasing=True).T, moments).tolist()
