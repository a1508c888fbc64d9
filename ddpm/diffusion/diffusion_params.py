"""The ``diffusion`` section of params.yaml."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Protocol

from pydantic import Field, InstanceOf

from ddpm.base import variant
from ddpm.base.sections import Section
from ddpm.base.tensor import Tensor
from ddpm.base.variant import Family
from ddpm.diffusion.coefficients import Coefficients
from ddpm.diffusion.loss import Loss
from ddpm.diffusion.parameterization import Parameterization
from ddpm.diffusion.schedule import Schedule
from ddpm.diffusion.variance import Variance

MIN_LOG_SNR = -80  # alpha_bar below e^-87 is not a normal float32


class Spanned(Protocol):
    """A network whose ``embed_span`` gives the condition that shows it a span, or None."""

    def embed_span(self, span: Tensor) -> Tensor | None: ...

    def __call__(self, *given: Any) -> Any: ...


class Diffusion(Section):
    """The forward process, what the network predicts, and its loss.

    noise_conditioning: whether the network is shown t; without, it has to see in x_t how noisy that is (Sun 2025,
    arXiv:2502.13129).
    """

    T: Annotated[int, Field(ge=1, le=10_000)] = 1000
    schedule: Annotated[InstanceOf[Schedule], Family("schedules")]
    parameterization: Annotated[InstanceOf[Parameterization], Family("parameterizations")]
    variance: Annotated[InstanceOf[Variance], Family("variances")]
    loss: Annotated[InstanceOf[Loss], Family("losses")]
    noise_conditioning: bool = True

    def ask(
        self,
        network: Spanned,
        x: Tensor,
        t: Tensor,
        at: Coefficients,
        labels: Tensor | None = None,
        condition: Tensor | None = None,
        s: Tensor | int | None = None,
        forward: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """The network's float32 output at x, (B, variance.outputs * C, H, W): a denoiser's or, with s, that of the map
        from t to s. condition: (B, features), how images were augmented. forward: runs the network, if it is wrapped.
        """
        span = None if s is None else network.embed_span(self.loss.clock(t - s, self.T))
        if span is not None:
            condition = span if condition is None else condition + span
        shown, clock = self.parameterization.network_input(x, at), self.loss.clock(t, self.T)
        if not self.noise_conditioning:
            clock = clock.new_zeros(len(clock))
        run = network if forward is None else forward  # `or` would ask a compiled one for its length
        output: Tensor = run(shown, clock, labels, condition)
        return output.float()

    def refusals(self) -> Iterator[str]:
        """Why these choices cannot work together, judged by the flags of each."""
        schedule, variance, loss = self.schedule, self.variance, self.loss
        if not self.noise_conditioning and loss.learns != ("denoiser",):
            yield f"noise_conditioning: false is for denoisers, not loss: {loss.name}; allowed: true"
        if self.parameterization.divides_by_signal and schedule.zero_terminal_snr:
            yield (
                f"parameterization: {self.parameterization.name} divides by the signal, but "
                f"schedule.{schedule.name}.zero_terminal_snr: true leaves none at t = T; "
                f"allowed: {variant.having('parameterizations', 'divides_by_signal', False)}"
            )
        yield from loss.refusals(schedule, self.T, self.parameterization)
        if variance.outputs not in loss.outputs:
            yield (
                f"loss: {loss.name} does not go with variance: {variance.name}, which is "
                f"{'fixed' if variance.outputs == 1 else 'learned'}; "
                f"allowed: variance: {variant.having('variances', 'outputs', *loss.outputs)}, "
                f"or loss: {variant.having('losses', 'outputs', (variance.outputs,), (1, 2))}"
            )
        try:
            last = float(schedule.noise_schedule(self.T).log_snr[-1])
        except ValueError as error:
            yield f"schedule: {schedule.name} cannot make a chain of T: {self.T} steps: {error}"
            return
        if last < MIN_LOG_SNR and not schedule.zero_terminal_snr:
            yield (
                f"schedule: {schedule.name} with T: {self.T} leaves a log-SNR of {last:.0f} at t = T, which float32 "
                f"cannot hold; allowed: at least {MIN_LOG_SNR}: use more steps or a milder schedule"
            )
