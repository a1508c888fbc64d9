"""AdamW, with Muon's steps for some of the weights. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from ddpm.training.optimizer import Betas, Hidden, Weights

COEFFICIENTS, ITERATIONS, EPSILON = (3.4445, -4.775, 2.0315), 5, 1e-7  # of the authors' code
CPU_DTYPE = torch.float32  # the authors' is bfloat16, in which a CPU takes three times as long for small products


class OrthogonalAdamW(AdamW):
    """The step of each of the ``hidden`` weights is its momentum made orthogonal, as a matrix, (outputs, all else): the
    kernel of a convolution is one with inputs x height x width columns. Its number says of how many matrices it is a
    stack, each of which is made orthogonal alone. Matrices of one shape are multiplied together: few large products."""

    def __init__(
        self, parameters: Weights, hidden: Hidden, rate: float, momentum: float, betas: Betas, weight_decay: float
    ):
        known = {id(weight) for weight in hidden}
        others = [parameter for parameter in parameters if id(parameter) not in known]
        groups = [{"params": [*hidden]}, {"params": others}]
        super().__init__(groups, rate, betas=betas, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # the scaler of float16 skips a step that overflowed, and waits to know
        self.momentum = momentum
        self.alike: dict[tuple[int, int, int], list[Tensor]] = {}
        for weight, parts in hidden.items():
            self.alike.setdefault((parts, len(weight) // parts, weight[0].numel()), []).append(weight)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """The learning rate of a matrix is 0.2 sqrt(its longer side) times the group's. Liu et al. 2025
        (arXiv:2502.16982).
        """
        rate, decay = self.param_groups[0]["lr"], self.param_groups[0]["weight_decay"]
        for (parts, rows, columns), all_weights in self.alike.items():
            weights = [weight for weight in all_weights if weight.grad is not None]
            gradients: list[Any] = [weight.grad for weight in weights]
            for weight in weights:
                if not self.state[weight]:  # AdamW looks for a step in every state that it loads
                    self.state[weight] = {"momentum_buffer": torch.zeros_like(weight), "step": torch.zeros(())}
                weight.grad = None  # AdamW leaves it alone
            moments = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_lerp_(moments, gradients, 1 - self.momentum)
            updates = torch._foreach_lerp(gradients, moments, self.momentum)
            if matrices := [_matrix(weight, weight) for weight in weights]:
                whole = torch.stack([_matrix(*pair) for pair in zip(updates, weights, strict=True)])
                steps = orthogonal(whole.view(-1, rows, columns)).view(-1, parts * rows, columns)
                torch._foreach_mul_(matrices, 1 - rate * decay)
                torch._foreach_add_(matrices, list(steps.float()), alpha=-0.2 * math.sqrt(max(rows, columns)) * rate)
        super().step()


def orthogonal(matrices: Tensor) -> Tensor:
    """(K, rows, columns), with all singular values moved to about 1 by Newton and Schulz's iteration: in bfloat16,
    or on a CPU in CPU_DTYPE."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.to(CPU_DTYPE if matrices.device.type == "cpu" else torch.bfloat16)
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def flops(stack: int, rows: int, columns: int) -> int:
    """Operations of ``orthogonal``: in each iteration each matrix is multiplied with its transpose, their product with
    itself, and the matrix with that."""
    short, long = sorted((rows, columns))
    return stack * ITERATIONS * 2 * (2 * short**2 * long + short**3)


def _matrix(tensor: Tensor, weight: Tensor) -> Tensor:
    """(outputs, all else), a view of ``tensor`` if it is laid out in memory as ``weight`` is, of the same shape."""
    if not weight.is_contiguous():  # channels_last
        tensor = tensor.movedim(1, -1)
    return tensor.reshape(len(tensor), -1)
