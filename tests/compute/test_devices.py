"""Devices; and what a GPU needs of a step, shown without one: all tensors are on its device, the host looks at no
value, and it compiles whole."""

import sys
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.shelves import NETWORKS, config_of, covering_rows
from tests.small import CPU, pictures, small

META = torch.device("meta")  # whose tensors have shapes and no values


@pytest.mark.parametrize(("chosen", "threads"), [(None, 1), ("3", 3)])
def test_a_process_has_one_thread_unless_the_environment_says_otherwise(monkeypatch, chosen, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    torch.set_num_threads(3)  # what torch chooses by itself, from three cores or from the variable
    devices.resolve("cpu")
    assert torch.get_num_threads() == threads


@pytest.fixture
def one_gpu(monkeypatch):
    """Torch believes that there is a GPU; nothing may compute on it."""
    monkeypatch.setattr(devices, "DRIVER", None)  # a library that is always there: the program itself
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    yield
    torch.use_deterministic_algorithms(False)


def test_a_convolution_in_float32_is_not_rounded_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as cuDNN has it
    devices.resolve("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("device", "rank"), [("auto", "1"), ("cuda", "1"), ("cuda:1", "0"), ("cuda:128", "0")])
def test_a_rank_without_a_gpu_of_its_own_is_refused(one_gpu, monkeypatch, device, rank):
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(UserError, match=f"^device: '{device}'"):
        devices.resolve(device)


def test_every_stage_asks_for_the_same_bytes_whatever_the_one_before_it_asked_for(one_gpu):
    """Training may do without, and sampling and scoring may follow it in the same process."""
    devices.make_deterministic(devices.resolve("auto"), on=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert devices.resolve("auto") == torch.device("cuda", 0)
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("visible", "names"), [(None, ("0",)), ("", ()), ("2,5", ("2", "5")), ("GPU-1f", ("GPU-1f",))])
def test_gpus_are_those_that_are_visible_or_that_the_driver_has(one_gpu, monkeypatch, visible, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == names


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


SWITCHES = [(False, True, False), (True, False, True), ("auto", True, True), ("auto", False, False)]


@pytest.mark.parametrize(("switch", "pays", "on"), SWITCHES)
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
