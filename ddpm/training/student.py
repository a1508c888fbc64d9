"""The learner: a network as losses ask it (``ddpm.diffusion.loss.Network``), its optimizer, and its averages."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ddpm.base.files import flatten
from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.diffusion.batch import Batch, NoisyBatch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import Coefficients, q_sample
from ddpm.model import build, precision
from ddpm.model.layers import dropout_layers, hidden_weights, recompute_blocks
from ddpm.training import teacher
from ddpm.training.checkpoints import State
from ddpm.training.snapshots import Averages
from ddpm.training.train_params import Train, TrainingConfig


def compiles(options: Train, device: torch.device) -> bool:
    """Whether a training compiles its network there."""
    return devices.is_on(options.compile, devices.compiles(device) and not options.checkpoint_activations)


class Student:
    """network: on the device, in its layout; ``forward`` runs it, compiled and data-parallel where that is asked for.
    auxiliary: the layer that shows it how images were augmented, or none; it is in no average and no model file. facts:
    for the model file."""

    def __init__(self, config: TrainingConfig, device: torch.device, ranks: Ranks, total: int):
        """total: steps of the whole training."""
        options, diffusion = config.train, config.diffusion
        self.options, self.device, self.total = options, device, total
        self.diffusion, self.parameterization, self.variance = diffusion, diffusion.parameterization, diffusion.variance
        self.chain = Chain(diffusion.schedule.noise_schedule(diffusion.T), device)
        self.dtype = precision.choose(options.precision, config, device)
        channels_last = devices.is_on(options.channels_last, device.type == "cuda")
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        network = build.network(config).train().to(device)
        self.network = network.to(memory_format=self.layout)  # type: ignore[call-overload, unused-ignore]  # torch < 2.15
        self.facts = {"precision": devices.precision_name(self.dtype), **teacher.start(network, config, ranks.main)}
        self.averages = Averages(self.network, config, total)
        self.dropout, hidden = dropout_layers(self.network), hidden_weights(self.network)
        if options.checkpoint_activations:
            recompute_blocks(self.network)
        layer = options.augmentation.layer(self.network.time_features)
        self.auxiliary = nn.ModuleList([layer] if layer else []).to(device)
        self.parameters = [*self.network.parameters(), *self.auxiliary.parameters()]
        self.optimizer = options.optimizer.over(self.parameters, hidden, options.learning_rate)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.augmented = ranks.parallel(self.auxiliary[0]) if layer else None
        # the exchange of gradients is inside what is compiled, so that it overlaps with the backward pass
        forward = ranks.parallel(self.network)
        self.forward: nn.Module = torch.compile(forward) if compiles(options, device) else forward  # type: ignore[assignment]

    def __call__(
        self, batch: Batch, x: Tensor, t: Tensor, at: Coefficients, s: Tensor | None = None, precise: bool = False
    ) -> Tensor:
        for layer, keys in zip(self.dropout.values(), batch.dropout.unbind(1), strict=True):
            layer.keys = keys
        augmented = None if self.augmented is None or batch.condition is None else self.augmented(batch.condition)
        # without a gradient nothing is averaged over ranks, and these may ask unequally often
        forward: Callable[..., Tensor] = self.forward if torch.is_grad_enabled() else self.network
        x = x.contiguous(memory_format=self.layout)
        if precise and self.layout == torch.channels_last:  # a layout in which group norm has no forward mode
            plain = partial(torch.clone, memory_format=torch.contiguous_format)
            weights = {name: plain(weight) for name, weight in self.network.named_parameters()}
            forward, x = (lambda *given: functional_call(self.network, weights, given)), plain(x)
        with devices.autocast(torch.float32 if precise else self.dtype, self.device):
            return self.diffusion.ask(self.network, x, t, at, batch.labels, augmented, s, forward)

    def diffuse(self, batch: Batch, t: Tensor) -> NoisyBatch:
        """Draw epsilon, and make x_t of it: Algorithm 1, line 4, and equation 4.

        Of several ``train.noise_draws`` it is the nearest to x_0: immiscible diffusion, Li et al. 2025
        (arXiv:2505.18521). With ``train.input_perturbation``, x_t has more noise than epsilon, which stays what there
        is to learn. Ning et al. 2023 (arXiv:2301.11706), Algorithm 3.
        """
        options, draws, x_0, at = self.options, batch.draws, batch.x_0, self.chain.at(t)
        epsilon = draws.gaussian("train")
        for draw in range(1, options.noise_draws):
            other = draws.gaussian(f"train/{draw}")
            far, near = ((each - x_0).flatten(1).norm(dim=1) for each in (epsilon, other))
            epsilon = torch.where((near < far)[:, None, None, None], other, epsilon)
        gamma = options.input_perturbation
        perturbed = epsilon + gamma * draws.gaussian("perturbation") if gamma else epsilon
        return NoisyBatch(x_0, epsilon, q_sample(x_0, perturbed, at), t, at)

    def learn(self, step: int) -> Tensor:
        """Take optimizer step ``step`` with the gradients that are there, and add the new weights to the averages.

        Returns the norm that the gradient had before ``train.gradient_clip`` limited it.
        """
        self.scaler.unscale_(self.optimizer)
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        if (largest := self.options.gradient_clip) is not None:
            clip_grads_with_norm_(self.parameters, largest, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate(step, self.total)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.averages.update(step)
        self.options.optimizer.average(self.optimizer, list(self.averages.shipped.values()))
        return norm

    def state(self) -> State:
        """All of it that the next step depends on; the optimizer's tensors by their parameter's place."""
        optimizer = self.optimizer.state_dict()
        return {
            "network": self.network.state_dict(),
            "auxiliary": self.auxiliary.state_dict(),
            "ema": self.averages.shipped,
            "posthoc": self.averages.posthoc,
            "optimizer": {**flatten(optimizer["state"]), "groups": optimizer["param_groups"]},
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Load what ``state`` returned."""
        self.network.load_state_dict(state["network"])
        self.auxiliary.load_state_dict(state["auxiliary"])
        for part, averages in (("ema", self.averages.shipped), ("posthoc", self.averages.posthoc)):
            for name, value in state[part].items():
                averages[name].copy_(value)
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state["optimizer"].items():
            place, _, name = key.partition(".")
            if name:
                weight = weights[int(place)]
                # fused optimizers pair moments with weights by their place in memory
                if value.shape == weight.shape:
                    value = torch.empty_like(weight, dtype=value.dtype).copy_(value)  # noqa: PLW2901
                moments.setdefault(int(place), {})[name] = value
        self.optimizer.load_state_dict({"state": moments, "param_groups": state["optimizer"]["groups"]})
        self.scaler.load_state_dict(state["scaler"])
