"""Objectives that learn where the probability-flow ODE leads, so that one evaluation is a long step. Boffi et al. 2024
(arXiv:2406.07507) call it a flow map.

x_t and the x_s that the ODE leads to determine one pair (x_0, epsilon) of which both are mixtures. That pair is what
the network's output means, by any parameterization: a step is DDIM's with it. For s = t it is a denoiser's, for s = 0
its x_0 is the consistency function, and epsilon - x_0 is MeanFlow's mean velocity and the shortcut of shortcut models,
with x / (signal + sigma) as their x and sigma / (signal + sigma) as their time, under every schedule.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import ClassVar

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.loss import Denoised, Lesson, Loss
from ddpm.diffusion.parameterization import Prediction


class FlowMapLoss(Loss):
    """Contract of such an objective: ``times`` chooses where maps lead, ``teach`` says what (x_0, epsilon) they mean.

    The loss is the output's mean squared error L, weighted by 1 / (L + c)^power without gradient: MeanFlow's adaptive
    weight (arXiv:2505.13447, section 4.3), and pseudo-Huber's for power = 1/2. It is written as the function with that
    gradient, (L + c)^(1 - power) / (1 - power), or log(L + c), which falls while the network learns. Above 0 it prefers
    likely answers to their mean, and the more so the fewer pixels an image has: then L itself is a matter of chance.
    """

    c: ClassVar[float] = 0.0

    power: Share = 0.0

    @abstractmethod
    def teach(self, lesson: Taught) -> tuple[Tensor, Tensor]:
        """The (x_0, epsilon) of the map from x_t to x_s, (B, C, H, W) each."""

    def truth(self, lesson: Lesson, taught: slice, done: float) -> tuple[Tensor, Tensor]:
        import torch

        x_0, epsilon = lesson.x_0.clone(), lesson.epsilon.clone()
        rows = Taught(lesson, taught, done)
        if len(rows.t):
            with torch.no_grad():
                x_0[taught], epsilon[taught] = self.teach(rows)
        return x_0, epsilon

    def __call__(self, denoised: Denoised) -> Tensor:
        error = denoised.squared_error() + self.c
        return error.log() if self.power == 1 else error ** (1 - self.power) / (1 - self.power)


class Taught:
    """The rows of a lesson for which the network itself says what to learn, and the share of the training done."""

    def __init__(self, lesson: Lesson, rows: slice, done: float):
        self.x_0, self.epsilon, self.x_t, self.t, self.s = (value[rows] for value in lesson[:5])
        self.chain, self.parameterization, self.done = lesson.chain, lesson.parameterization, done
        self.network, self.rows = lesson.network, rows
        self.teacher = partial(lesson.teacher, rows)

    def predict(self, x: Tensor, t: Tensor, s: Tensor) -> Prediction:
        """The current network's prediction for the map from x at t to s."""
        return self.at(self.chain.at(t), x, t, s)

    def at(self, at: Coefficients, x: Tensor, t: Tensor, s: Tensor, precise: bool = False) -> Prediction:
        """Like ``predict``, for any constants ``at``."""
        output = self.network(self.rows, self.parameterization.network_input(x, at), t, t - s, precise=precise)
        return self.parameterization.predict(output, x, at)

    def halved(self, predict: Callable[[Tensor, Tensor, Tensor], Prediction]) -> tuple[Tensor, Tensor]:
        """The (x_0, epsilon) of the map from t to s that takes two steps of half the length by ``predict(x, t, s)``."""
        import torch

        half, after = (self.t + self.s) // 2, self.chain.at(self.s + 1)
        first = predict(self.x_t, self.t, half)
        x_half = self.mixed(first.x_0, first.epsilon, half)
        second = predict(x_half, half.clamp(min=1), self.s)
        one_step = (half == self.s)[:, None, None, None]  # of the chain: it has no half
        x_s = torch.where(one_step, x_half, self.mixed(second.x_0, second.epsilon, self.s))
        at = self.chain.at(self.t)
        sine = after.signal_prev * at.sigma - at.signal * after.sigma_prev
        x_0 = (at.sigma * x_s - after.sigma_prev * self.x_t) / sine
        return x_0, (after.signal_prev * self.x_t - at.signal * x_s) / sine

    def mixed(self, x_0: Tensor, epsilon: Tensor, s: Tensor) -> Tensor:
        """x_s, the mixture of x_0 and epsilon at s in 0..T-1."""
        after = self.chain.at(s + 1)
        return after.signal_prev * x_0 + after.sigma_prev * epsilon


def sections(t: Tensor, parts: Tensor | int, T: int) -> tuple[Tensor, Tensor]:
    """Start and end, (B,) int64, of the step that t lies in, if the chain is sampled in ``parts`` steps with ``spacing:
    trailing``."""
    section = (t * parts / T).ceil()
    return (section * T / parts).round().long(), ((section - 1) * T / parts).round().long()
