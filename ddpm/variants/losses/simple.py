"""L_simple: unweighted squared error on the network's target, or in another space. Ho et al. 2020 (arXiv:2006.11239),
equation 14; the space apart from the target: JiT, Li & He 2025 (arXiv:2511.13720)."""

from collections.abc import Iterator

from ddpm.base.sections import BelowOne
from ddpm.base.tensor import Tensor
from ddpm.diffusion.loss import Estimate, Loss, Space
from ddpm.diffusion.parameterization import Parameterization
from ddpm.diffusion.schedule import Schedule


class Simple(Loss):
    """``space``: where the error is taken, by default on what the network predicts. An error of x_0 is one of epsilon,
    v and the flow too, so each space is a weight of x_0's: 1, SNR, 1 + SNR and (1 + sqrt(SNR))^2.

    least_noise: the share of noise, sigma / (signal + sigma), by which an error of x_0 is at least divided in the space
    flow, where the error at the lowest levels is otherwise nearly all of the loss. JiT's is 0.05.
    """

    space: Space | None = None
    least_noise: BelowOne = 0.0

    def measure(self, estimate: Estimate) -> Tensor:
        error, at = estimate.squared_error(self.space), estimate.noisy.at
        if not self.least_noise:
            return error
        return (at.sigma / (at.signal + at.sigma) / self.least_noise).clamp(max=1).square().flatten() * error

    def refusals(self, schedule: Schedule, T: int, target: Parameterization) -> Iterator[str]:
        if self.least_noise and self.space != "flow":
            yield f"loss.simple.least_noise: {self.least_noise:g} needs loss.simple.space: flow; allowed: 0"
        if self.space == "epsilon" and schedule.zero_terminal_snr:
            yield (
                f"loss.simple.space: epsilon gives steps without signal no weight, and "
                f"schedule.{schedule.name}.zero_terminal_snr: true leaves none at t = T, where sampling begins; "
                "allowed: null, flow, v, x0"
            )
