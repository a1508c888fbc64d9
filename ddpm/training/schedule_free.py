"""AdamW without a schedule, in float16 too. Defazio et al. 2024 (arXiv:2405.15682)."""

from typing import Any

import torch
from schedulefree import AdamWScheduleFree
from torch import Tensor


class AmpScheduleFree(AdamWScheduleFree):  # type: ignore[misc]  # it has no types
    """The library's steps, which count on the host; with a scaler of float16 the same ones, counted on the device, so
    that the host need not wait to learn whether a gradient overflowed. Such a step changes nothing, nor does it count.
    """

    _step_supports_amp_scaling = True

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        overflow: Tensor | None = getattr(self, "found_inf", None)  # set by the scaler: 1 or 0
        if overflow is None:
            super().step(closure)
            return
        (group,) = self.param_groups
        rate, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
        weights = [weight for weight in group["params"] if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight] = {"z": weight.clone(), "exp_avg_sq": torch.zeros_like(weight)}
        z, squares = ([self.state[weight][name] for weight in weights] for name in ("z", "exp_avg_sq"))
        passes = 1 - overflow.double()
        # how many steps there were, and the sum of their shares of the average
        counts = self.state[weights[0]].setdefault("step", passes.new_zeros(2))
        steps, total = counts.add_(torch.stack([passes, passes * rate**2])).unbind()
        share = passes * rate**2 / total.clamp(min=1e-300)
        gradients = [weight.grad.masked_fill(overflow > 0, 0.0) for weight in weights]
        torch._foreach_mul_(squares, (1 - passes * (1 - beta2)).float())
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        sizes = torch._foreach_div(squares, (1 - beta2 ** steps.clamp(min=1)).float())
        torch._foreach_sqrt_(sizes)
        torch._foreach_add_(sizes, group["eps"])
        torch._foreach_div_(gradients, sizes)
        torch._foreach_add_(gradients, torch._foreach_mul(weights, (decay * passes).float()))
        torch._foreach_add_(weights, torch._foreach_mul(torch._foreach_sub(z, weights), share.float()))
        torch._foreach_add_(weights, torch._foreach_mul(gradients, (rate * (beta1 * (1 - share) - 1)).float()))
        torch._foreach_sub_(z, gradients, alpha=rate)
