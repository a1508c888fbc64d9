"""Training objectives.

Contract: a variant maps ``Denoised``, a noised batch and the network's output for it, to each image's loss.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from ddpm.base.tensor import Tensor
from ddpm.base.variant import Variant
from ddpm.diffusion.coefficients import Coefficients, posterior_mean
from ddpm.diffusion.parameterization import Parameterization, Prediction
from ddpm.diffusion.schedule import Schedule
from ddpm.diffusion.variance import Variance

if TYPE_CHECKING:
    from ddpm.diffusion.chain import Chain
else:
    Chain = Any  # for annotations: importing torch takes a second

Space = Literal["x0", "epsilon", "v", "flow"]
# what sampling may ask a network for: see ddpm/diffusion/flow_map.py
Learns = Literal["denoiser", "consistency", "flow map"]
# what an error of x_0 becomes in each space, times sigma and up to its sign
SPACES: dict[Space, Callable[[Coefficients], Tensor]] = {
    "x0": lambda at: at.sigma,
    "epsilon": lambda at: at.signal,
    "v": lambda at: at.signal.new_ones(at.signal.shape),
    "flow": lambda at: at.signal + at.sigma,
}


class Denoised(NamedTuple):
    """A noised batch and the network's output for it: all that an objective may need.

    Images are (B, C, H, W), the output is float32, and ``variance_output`` is None if the variance is fixed. ``at``
    holds the constants at each image's t, in a chain of ``T`` steps.
    """

    output: Tensor
    variance_output: Tensor | None
    x_0: Tensor
    epsilon: Tensor
    x_t: Tensor
    at: Coefficients
    T: int
    parameterization: Parameterization
    variance: Variance

    def squared_error(self, space: Space | None = None) -> Tensor:
        """(B,) mean squared error between the output and the parameterization's target, or in another ``space``."""
        target = self.parameterization.target(self.x_0, self.epsilon, self.at)
        error = (self.output - target).square().mean(dim=(1, 2, 3))
        if space is None:
            return error
        scale = (SPACES[space](self.at) / self.at.sigma).square() * self.parameterization.x_0_scale(self.at)
        return scale.flatten() * error

    def bound(self, detach_mean: bool = False) -> Tensor:
        """(B,) bits per dimension: T times equation 5's term at t, so that its mean over uniform t is the whole bound
        without the constant L_T. With ``detach_mean`` the gradient reaches only the variance."""
        from ddpm.diffusion.chain import bound_term

        output = self.output.detach() if detach_mean else self.output
        x_0 = self.parameterization.predict(output, self.x_t, self.at).x_0
        mean = posterior_mean(x_0, self.x_t, self.at)
        log_variance = self.variance.log_variance(self.variance_output, self.at)
        nats = bound_term(self.x_0, self.x_t, mean, log_variance, self.at)
        return nats.mean(dim=(1, 2, 3)) * (self.T / math.log(2))


class Lesson(NamedTuple):
    """A noised batch before the network has seen it, for objectives that ask the network itself what it should learn.

    x_0, epsilon and x_t are (B, C, H, W). t and s, (B,) int64, are the steps of the ``chain`` from and to which the
    network is to lead; s = t for a denoiser. ``network(rows, x, t, span)`` is its output, float32, for those rows of
    the batch, with their classes, augmentation and dropout, at x and t and with the span t - s; with ``precise=True``
    nothing is computed in less than float32. ``teacher(rows, x, t)`` is the estimate of the model that the training
    started from.
    """

    x_0: Tensor
    epsilon: Tensor
    x_t: Tensor
    t: Tensor
    s: Tensor
    chain: Chain
    parameterization: Parameterization
    network: Callable[..., Tensor]
    teacher: Callable[..., Prediction]


class Loss(Variant, ABC):
    """Contract of an objective."""

    trains_variance: ClassVar[bool] = False
    """Whether the gradient reaches the output for a learned variance."""
    needs_learned_variance: ClassVar[bool] = False
    """Whether the loss makes no sense without that output."""
    trains_zero_snr: ClassVar[bool] = True
    """Whether steps without signal have any weight."""
    learns: ClassVar[tuple[Learns, ...]] = ("denoiser",)
    """What its network may be asked for."""
    needs_teacher: ClassVar[bool] = False
    """Whether the model that the training started from is the teacher."""
    every: ClassVar[int] = 1
    """One of ``every`` images in a row is ``taught`` by the network itself, if the objective does that at all."""
    passes: ClassVar[int] = 0
    """Forward passes that teaching an image takes, besides the one that the gradient flows through."""

    @abstractmethod
    def __call__(self, denoised: Denoised) -> Tensor:
        """Each image's loss, (B,) float32."""

    def clock(self, t: Tensor, T: int) -> Tensor:
        """What the network is shown as t, or as a span: (B,), for such a number of steps, int64 or floating."""
        return t

    def times(self, t: Tensor, taught: Tensor, T: int, uniform: Callable[[str], Tensor]) -> tuple[Tensor, Tensor]:
        """t and s of a batch, (B,) int64, from the t that were drawn; s = t for a denoiser.

        taught: bool (B,). uniform: (B,) independent draws in [0, 1) for a purpose.
        """
        return t, t

    def truth(self, lesson: Lesson, taught: slice, done: float) -> tuple[Tensor, Tensor]:
        """The (x_0, epsilon) that the network's output should mean, (B, C, H, W) each, here those of the batch itself.

        taught: the rows of the batch; done: the share of the training that is done.
        """
        return lesson.x_0, lesson.epsilon

    def refusals(self, schedule: Schedule) -> Iterator[str]:
        """Why its fields cannot work with the ``schedule``, if they cannot."""
        yield from ()


class SNRWeighted(Loss):
    """Squared error of x_0 with a weight that depends only on SNR = alpha_bar / (1 - alpha_bar).

    It is the same objective for every parameterization, because the error of the output is converted to x_0's.
    """

    trains_zero_snr: ClassVar[bool] = False

    @abstractmethod
    def weight(self, snr: Tensor) -> Tensor:
        """The weight of x_0's squared error at ``snr``, of any shape."""

    def __call__(self, denoised: Denoised) -> Tensor:
        at = denoised.at
        weight = self.weight((at.signal / at.sigma).square()) * denoised.parameterization.x_0_scale(at)
        return weight.flatten() * denoised.squared_error()
