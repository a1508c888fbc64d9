"""The network learns the mean velocity from s to t, by the derivative of what it says along the way. MeanFlow, Geng et
al. 2025 (arXiv:2505.13447), equations 6 to 11."""

from collections.abc import Iterator
from typing import ClassVar

from ddpm.base.sections import Share
from ddpm.base.tensor import Tensor
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.flow_maps import FlowMapLoss, Pair
from ddpm.diffusion.loss import Learns, Network
from ddpm.diffusion.parameterization import Parameterization
from ddpm.diffusion.schedule import Schedule

CLOCK = 10.0  # radians of the fastest feature from the image to noise


class MeanFlow(FlowMapLoss):
    """u = v - (tau_t - tau_s) du/dtau, with v = epsilon - x_0 and tau = sigma / (signal + sigma), the flow's time. One
    of four images is taught u, the others v, with s = t. The derivative is by forward mode, in float32, and exact for
    the network; the chain's constants, which are known at its steps only, enter with central differences. The network
    is shown t / T times CLOCK: its features of t itself turn by a radian a step, and their derivative would be noise.

    Differs from the paper: s is uniform below t, whose density is the timestep sampler's (the paper draws both by
    ``logit_normal`` of mean -0.4); c is added to the mean square over pixels, not to the sum.
    """

    learns: ClassVar[tuple[Learns, ...]] = ("denoiser", "consistency", "flow map")
    every: ClassVar[int] = 4
    passes: ClassVar[float] = 3 / every  # two for the derivative: torch derives a convolution by its weights too

    power: Share = 1.0

    def refusals(self, schedule: Schedule, T: int, target: Parameterization) -> Iterator[str]:
        if T == 1:
            yield "loss: mean_flow derives along the chain, which T: 1 makes a single step; allowed: T of at least 2"

    def clock(self, t: Tensor, T: int) -> Tensor:
        return t * (CLOCK / T)

    def times(self, batch: Batch, T: int) -> tuple[Tensor, Tensor]:
        return batch.t, (batch.draws.uniform("mean flow") * batch.t).long()

    def target(self, network: Network, batch: Batch, noisy: NoisyBatch, s: Tensor) -> Pair:
        import torch
        from torch.autograd import forward_ad
        from torch.nn.attention import SDPBackend, sdpa_kernel

        from ddpm.diffusion.chain import coefficients

        chain, x_0, epsilon, x_t, t, at = network.chain, noisy.x_0, noisy.epsilon, noisy.x_t, noisy.t, noisy.at

        def velocity(x: Tensor, t: Tensor, constants: Tensor) -> Tensor:
            here = coefficients(constants)
            output = network(batch, x, t, here, s, precise=True)  # autocast mixes types in forward mode
            estimate = network.parameterization.predict(output, x, here)
            return estimate.epsilon - estimate.x_0

        later, earlier = t.clamp(max=len(chain) - 1), (t - 2).clamp(min=0)
        slope = (chain.table[later] - chain.table[earlier]) / (later - earlier)[:, None]
        along, after = coefficients(slope), chain.at(s + 1)
        tangents = along.signal * x_0 + along.sigma * epsilon, torch.ones_like(t, dtype=x_t.dtype), slope
        with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():  # the other kernels have no forward mode
            primals = x_t, t.to(x_t.dtype), chain.table[t - 1]
            change = forward_ad.unpack_dual(velocity(*map(forward_ad.make_dual, primals, tangents))).tangent
        length = at.signal + at.sigma
        rate = (at.signal * along.sigma - at.sigma * along.signal) / length.square()
        tau, tau_end = at.sigma / length, after.sigma_prev / (after.signal_prev + after.sigma_prev)
        u = epsilon - x_0 - (tau - tau_end) / rate * change
        return (x_t - at.sigma * u) / length, (x_t + at.signal * u) / length
