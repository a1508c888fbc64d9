"""Every optimizer in the folder keeps the contract: it learns, resumes to the same bytes, and waits for no device."""

import copy
import json
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ddpm.base import variant
from ddpm.base.files import flatten
from ddpm.base.sections import Shape
from ddpm.model.layers import hidden_weights
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.orthogonal import orthogonal
from ddpm.training.train_params import Train
from ddpm.training.trainer import Trainer
from tests.networks import SHAPES, architecture
from tests.small import CPU, PLAIN, build, pictures, small

OPTIMIZERS = pytest.mark.parametrize("name", variant.names("optimizers"))


optimizer = partial(build, "optimizers")


def trainer(name: str, fields=None, **options) -> Trainer:
    ema = {"name": "off"} if optimizer(name).averages else {"name": "constant"}
    chosen = {"name": name, name: fields or {}}
    train = {"optimizer": chosen, "ema": ema, "gradient_clip": 1.0, "learning_rate": 5e-3, **options}
    return Trainer(small(model={"name": "unet", "unet": PLAIN}, train=train).training(), pictures(), CPU)


def same(one, other) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else json.dumps(one) == json.dumps(other)


@OPTIMIZERS
@pytest.mark.parametrize(("precision", "channels_last"), [("float32", False), ("float16", True)])
def test_a_resumed_training_goes_on_to_the_same_bytes(name, channels_last, precision, folder):
    options = {"precision": precision, "channels_last": channels_last, "warmup_steps": 4}
    options |= {"augmentation": {"name": "non_leaking"}}
    whole, checkpoints = trainer(name, **options), Checkpoints("run")
    checkpoints.folder.mkdir(parents=True)
    for step in range(1, 7):
        whole.step(step)
        if step == 3:
            checkpoints.save(step, whole.state())
    again = trainer(name, **options)
    state, done = checkpoints.load(CPU) or ({}, 0)
    assert done == 3
    again.restore(state)
    for step in range(4, 7):
        again.step(step)
    expected, found = flatten(whole.state()), flatten(again.state())
    assert expected.keys() == found.keys()
    assert [key for key in expected if not same(expected[key], found[key])] == []


@OPTIMIZERS
def test_the_loss_falls_and_what_is_shipped_has_learned_too(name, monkeypatch):
    made = trainer(name, learning_rate=0.03, ema={"name": "off"}, batch_size=32)
    losses = torch.stack([made.step(step)[0] for step in range(1, 26)])
    assert losses[-5:].mean() < 0.8 * losses[:3].mean()
    made.student.network.load_state_dict(made.student.averages.shipped)
    monkeypatch.setattr(Train, "rate", lambda *_: 0.0)
    shipped = torch.stack([made.step(step)[0] for step in range(26, 29)])
    assert shipped.mean() < 0.8 * losses[:3].mean()


@OPTIMIZERS
def test_a_gradient_that_overflows_leaves_no_trace(name):
    """With a scaler of float16 all goes on as if there had been no such step, which is the plain one."""

    def weights_after(*gradients: float, amp: bool = True) -> list[Tensor]:
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(size)) for size in ((6, 4), (4, 4), (5,))]
        made = optimizer(name, weight_decay=0.1) if name != "adam" else optimizer(name)
        steps = made.over(weights, dict.fromkeys(weights[:2], 1), 0.02)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0, enabled=amp)
        for gradient in gradients:
            loss = sum((weight * weight.detach().cos() * gradient).sum() for weight in weights)
            scaler.scale(loss).backward()
            scaler.step(steps)
            scaler.update(2.0)
            steps.zero_grad()
        return [weight.detach() for weight in weights]

    expected = weights_after(1.0, -2.0, 3.0)
    assert all(map(torch.equal, weights_after(math.inf, 1.0, math.nan, -2.0, 3.0), expected))
    assert not any(map(torch.equal, weights_after(1.0, -2.0), expected))
    torch.testing.assert_close(weights_after(1.0, -2.0, 3.0, amp=False), expected)


@SHAPES
def test_hidden_weights_are_those_of_inner_layers_of_every_network(name, fields):
    network = architecture(name, **fields).network(Shape(3, 16, 16), 3, 5)
    known = {id(weight) for weight in hidden_weights(network)}
    names = {key for key, weight in network.named_parameters() if id(weight) in known}
    assert len(names) > 5
    assert all(weight.ndim in {2, 4} for weight in hidden_weights(network))
    assert not [key for key in names if key.startswith(("classes", "positions")) or not key.endswith("weight")]
    seen: list[nn.Module] = []
    for module in network.modules():
        weight = module._parameters.get("weight")
        if weight is not None and weight.ndim > 1 and not isinstance(module, nn.Embedding):
            module.register_forward_hook(lambda module, inputs, out: seen.append(module))
    network(torch.randn(1, 3, 16, 16), torch.tensor([3]))
    touching = next(module for module in seen if module.weight.ndim == 4), seen[-1]
    assert not known & {id(module.weight) for module in touching}, "the first and the last layer touch the image"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muons_steps_are_torchs(layout, monkeypatch):
    """Weights of several shapes, tall and wide, over three steps, in bfloat16 as torch's."""
    monkeypatch.setattr("ddpm.training.orthogonal.CPU_DTYPE", torch.bfloat16)
    torch.manual_seed(0)
    kernels = [nn.Conv2d(8, outputs, 3).to(memory_format=layout).weight for outputs in (8, 16)]
    weights = [*kernels, nn.Linear(4, 32).weight, nn.Linear(32, 4).weight]
    matrices = [nn.Parameter(weight.detach().clone().reshape(len(weight), -1)) for weight in weights]
    made = optimizer("muon", weight_decay=0.1).over(weights, dict.fromkeys(weights, 1), 0.02)
    peer = torch.optim.Muon(matrices, 0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for weight, matrix in zip(weights, matrices, strict=True):
            weight.grad = torch.empty_like(weight).normal_()  # in the weight's own layout
            matrix.grad = weight.grad.reshape(len(weight), -1).clone()
        made.step()
        peer.step()
    for weight, matrix in zip(weights, matrices, strict=True):
        assert torch.equal(weight.reshape(len(weight), -1), matrix)


def test_muon_can_split_a_stack_of_matrices():
    """Each part of the stack steps as a matrix of its own does."""
    stack, whole = (nn.Parameter(torch.arange(192.0).sin().view(24, 8)) for _ in range(2))
    parts = [nn.Parameter(part.detach().clone()) for part in stack.split(8)]
    stack.grad, whole.grad = torch.randn(2, 24, 8)
    for part, gradient in zip(parts, stack.grad.split(8), strict=True):
        part.grad = gradient.clone()
    whole.grad = stack.grad.clone()
    optimizer("muon", split=True).over([stack], {stack: 3}, 0.02).step()
    optimizer("muon").over(parts, dict.fromkeys(parts, 1), 0.02).step()
    optimizer("muon").over([whole], {whole: 3}, 0.02).step()
    assert torch.equal(stack, torch.cat(parts))
    assert not torch.equal(stack, whole)


@pytest.mark.parametrize("shape", [(16, 72), (72, 16), (16, 16)])
def test_matrices_become_orthogonal_together_as_each_does(shape):
    matrices = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    each = torch.cat([orthogonal(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonal(matrices), each, rtol=0, atol=1e-5)


def test_what_schedule_free_ships_is_the_librarys_average():
    made = trainer("schedule_free", {"betas": [0.8, 0.99], "weight_decay": 0.1}, warmup_steps=3)
    for step in range(1, 6):
        made.step(step)
    network, shipped = made.student.network, made.student.averages.shipped
    theirs, optimizer = copy.deepcopy((network, made.student.optimizer))
    optimizer.eval()
    for name, value in theirs.named_parameters():
        torch.testing.assert_close(shipped[name], value.detach(), rtol=1e-6, atol=1e-7)
    moved = [not torch.equal(shipped[name], value) for name, value in network.named_parameters()]
    assert sum(moved) > len(moved) / 2, "it is not what the network learns at"
