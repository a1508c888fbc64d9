"""What a GPU needs of a step, shown without one: all tensors are on its device, the host looks at no value, and
it compiles whole."""

import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch

from ddpm.base import variant
from ddpm.compute import devices
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.shelves import NETWORKS, config_of, covering_rows
from tests.small import pictures, small

CPU, META = torch.device("cpu"), torch.device("meta")  # tensors on META have shapes and no values


@pytest.mark.slow
def test_steps_and_drawings_stay_on_the_device_and_look_at_no_value(monkeypatch):
    """META refuses both: an operation on tensors of two devices, and one that needs values, such as ``item``."""
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    monkeypatch.setattr(torch, "autocast", lambda *_, **options: nullcontext())  # META has none
    for row in covering_rows()[0]:
        labels = np.arange(16) % 3 if row["classes"] else None
        config = config_of(row)
        train = config.train.model_copy(update={"accumulate": 2, "horizontal_flip": True})
        trainer = Trainer(config.model_copy(update={"train": train}).training(), pictures(16), META, labels=labels)
        for step in (1, 2):
            assert all(value.is_meta for value in trainer.step(step)), row
        generator = Generator.of(Loaded(trainer.student.network.eval(), trainer.config, {}), config.sample, META)
        with torch.no_grad():
            *_, x_0 = generator.trajectory(range(3), 0)
        assert x_0.is_meta, row


@pytest.mark.parametrize(
    ("switch", "pays", "on"), [(False, True, False), (True, False, True), ("auto", True, True), ("auto", False, False)]
)
def test_auto_compiles_where_it_pays_off(switch, pays, on, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **_: compiled.append(network) or network)
    monkeypatch.setattr(devices, "compiles", lambda device: pays)
    config = small(train={"compile": switch, "channels_last": "auto"}, sample={"compile": switch})
    trainer = Trainer(config.training(), pictures(16), CPU)
    assert trainer.student.layout == torch.contiguous_format  # a CPU's
    Generator.of(Loaded(trainer.student.network, config.training(), {}), config.sample, CPU)
    assert len(compiled) == 2 * on


def test_a_training_that_compiles_takes_the_steps_of_one_that_does_not(monkeypatch):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain, compiled = (Trainer(small(train={"compile": on}).training(), pictures(16), CPU) for on in (False, True))
    assert plain.step(1) == compiled.step(1)


@pytest.mark.long
@pytest.mark.parametrize("network", variant.names("networks"))
def test_a_network_compiles_whole_and_only_once(network):
    from torch._dynamo.backends.debugging import aot_eager  # 2 s to import

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    torch.compiler.reset()  # what other tests compiled counts too
    config = small(model={"name": network, network: NETWORKS[network]}).training()
    plain, compiled = (Trainer(config, pictures(16), CPU) for _ in range(2))
    assert plain.step(1) == compiled.step(1)  # dropout layers have their keys from here on, as they do in a training
    compiled.student.forward = torch.compile(compiled.student.network, backend=backend, fullgraph=True)
    for step in (2, 3, 4):
        torch.testing.assert_close(compiled.step(step), plain.step(step))
    assert len(graphs) == 1
