"""What a CUDA graph and a busy GPU need of a step, proved on CPU tensors: that it looks at no value, and does the same
operations on the same shapes each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.debugging import aot_eager
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.model.file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.captured import placed
from ddpm.training.trainer import Trainer
from tests.fake_cuda.rows import rows
from tests.small import pictures, small
from tests.test_combinations import NETWORKS, Row, config_of

CPU = torch.device("cpu")
# torch's own marks of what is known to the host only when the device is done
WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}


class Watched(TorchDispatchMode):
    """done: each operation with its numbers, and shapes in place of tensors. waits: those that a host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Any] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        name = function._schema.name.removeprefix("aten::")
        indices = arguments[1] if name in {"index", "index_put", "index_put_"} else None
        by_mask = any(each is not None and each.dtype == torch.bool for each in indices or ())
        # an index may be a mask, so torch marks all of them
        if by_mask or (indices is None and WAITS & set(function.tags)):
            self.waits.append(name)
        self.done.append((name, tree_map(_shape, (arguments, options or {}))))
        return function(*arguments, **(options or {}))


def _shape(value: object) -> object:
    if isinstance(value, torch.ScriptObject):  # the profiler's
        return None
    return (value.shape, value.dtype) if isinstance(value, Tensor) else value


def trained(row: Row) -> Trainer:
    labels = np.arange(16) % 3 if row["classes"] else None
    trainer = Trainer(config_of(row).training(), pictures(16), CPU, labels=labels)
    trainer.step(1)
    return trainer


def recorded(trainer: Trainer, step: int) -> Watched:
    """The part of a step that a CUDA graph holds, with the tensors that it would have."""
    values = [placed(value, CPU) for value in trainer.inputs(step)]
    with Watched() as watched:
        trainer.advance(*values)
    return watched


@pytest.mark.parametrize("wait", [lambda x: x.sum().item(), lambda x: x[x > 0], torch.nonzero])
def test_waits_are_seen(wait: Callable[[Tensor], object]) -> None:
    with Watched() as watched:
        torch.ones(2)[torch.ones(2, dtype=torch.int64)]
        assert watched.waits == []
        wait(torch.ones(2))
    assert watched.waits


@pytest.mark.parametrize("place", range(len(rows())))
def test_no_step_waits_and_each_is_the_same_work(place: int) -> None:
    row = rows()[place]
    trainer = trained(row)
    with Watched() as watched:
        trainer.step(2)
    assert watched.waits == [], row
    if trainer.config.train.optimizer.capturable:
        third, fourth = recorded(trainer, 3), recorded(trainer, 4)
        assert third.waits == []
        assert third.done == fourth.done, row
    model = Loaded(trainer.network.eval(), trainer.config, {})
    generator = Generator.of(model, config_of(row).sample, CPU)
    with torch.no_grad(), Watched() as watched:
        list(generator.trajectory(range(3), 0, trainer.shape))
    assert watched.waits == [], row


def test_a_number_that_changes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trained(rows()[0] | {"optimizer": "adamw"})
    rates = iter((0.1, 0.2))
    monkeypatch.setattr(trainer.ema, "update", lambda share: torch.ones(1).mul(next(rates)))
    assert recorded(trainer, 3).done != recorded(trainer, 4).done


def test_tensors_in_place_of_numbers_train_the_same() -> None:
    numbers, tensors = (trained(rows()[0] | {"optimizer": "adamw"}) for _ in range(2))
    for step in (2, 3):
        loss, norm = numbers.step(step)
        again = tensors.advance(*[placed(value, CPU) for value in tensors.inputs(step)])
        torch.testing.assert_close(again, (loss, norm))
    torch.testing.assert_close(tensors.ema.averages, numbers.ema.averages)


@pytest.mark.slow
@pytest.mark.parametrize("network", variant.names("networks"))
def test_a_step_compiles_whole_and_only_once(network: str) -> None:
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return aot_eager(graph, inputs)

    torch.compiler.reset()  # what other tests compiled counts too
    config = small(model={"name": network, network: NETWORKS[network]}).training()
    plain, compiled = (Trainer(config, pictures(16), CPU) for _ in range(2))
    assert plain.step(1) == compiled.step(1)  # dropout layers have their keys from here on, as they do in a training
    compiled.losses = torch.compile(compiled.losses, backend=backend, fullgraph=True)  # type: ignore[method-assign]
    for step in (2, 3, 4):
        torch.testing.assert_close(compiled.step(step), plain.step(step))
    assert len(graphs) == 1


def test_a_record_needs_a_gpu() -> None:
    with pytest.raises(UserError, match=r"train\.cuda_graph: true needs one process on a GPU.*set it to false"):
        Trainer(small(train={"cuda_graph": True}).training(), pictures(16), CPU)


@pytest.mark.parametrize(
    "other",
    [{"optimizer": {"name": "muon"}}, {"precision": "float16"}, {"checkpoint_activations": True}],
    ids=lambda other: next(iter(other)),
)
def test_what_no_record_can_hold_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cuda_graph"):
        small(train={"cuda_graph": True, **other})
