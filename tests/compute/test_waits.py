"""What a GPU needs of a step, shown without one: all tensors are on its device, the host looks at no value, and
it compiles whole."""

import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm.base import variant
from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.benchmarks.train import preset
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


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_training_decides_whether_it_is_deterministic_whatever_ran_before_it(monkeypatch, deterministic):
    asked = []
    monkeypatch.setattr(devices, "make_deterministic", lambda device, on: asked.append(on))
    Trainer(small(train={"deterministic": deterministic}).training(), pictures(16), CPU)
    assert asked == [deterministic]


class Launches(TorchDispatchMode):
    """Counts operations that a GPU has to be asked for: not views, and not memory alone."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._overloadpacket.__name__
        view = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
        self.count += not (view or "empty" in name or name == "detach")
        return func(*args, **(kwargs or {}))


# the most in a training step for which noise is there already; on CUDA, where some of these are several kernels, digits
# launches 1,082, noise included
BUDGET = {"digits": 980, "article": 1930, "cifar10": 1910, "edm": 590}


@pytest.mark.slow
@pytest.mark.parametrize("name", BUDGET)
def test_a_step_asks_little_of_the_host(name, monkeypatch):
    """Small networks wait for launches, of 4 microseconds each, and not for the GPU."""
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["meta"])
    config = preset(name, precision="float32")
    labels = np.zeros(512, np.int64) if config.model.classes else None
    trainer = Trainer(config.training(), np.zeros((512, *config.data.shape), np.uint8), META, labels=labels)
    trainer.step(1)
    with Launches() as launches:
        trainer.step(2)
    assert 300 < launches.count <= BUDGET[name]


class Exchange(torch.nn.Module):
    """In the place of DistributedDataParallel."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network


class Two(Ranks):
    def parallel(self, network: torch.nn.Module) -> torch.nn.Module:
        return Exchange(network)


def test_what_is_compiled_contains_the_exchange_between_ranks():
    """Torch cuts the graph where gradients are exchanged; compiled below the exchange, they wait for the whole."""
    compiled = Trainer(small(train={"compile": True}).training(), pictures(16), CPU, Two(0, 2)).student.forward
    assert isinstance(compiled._orig_mod, Exchange)


@pytest.mark.parametrize("pays", [False, True])
@pytest.mark.parametrize("switch", [False, True, "auto"])
def test_auto_compiles_where_it_pays_off(switch, pays, monkeypatch):
    monkeypatch.setattr(devices, "compiles", lambda device: pays)
    config = small(train={"compile": switch, "channels_last": "auto"}, sample={"compile": switch})
    trainer = Trainer(config.training(), pictures(16), CPU)
    assert trainer.student.layout == torch.contiguous_format  # a CPU's
    loaded = Loaded(trainer.student.network, config.training(), {})
    parts = trainer.student.forward, Generator.of(loaded, config.sample, CPU).denoiser.network
    assert [hasattr(part, "_orig_mod") for part in parts] == [switch is True or (switch == "auto" and pays)] * 2


def test_auto_leaves_alone_what_is_computed_again(monkeypatch):
    monkeypatch.setattr(devices, "compiles", lambda device: True)
    config = small(train={"compile": "auto", "checkpoint_activations": True}).training()
    assert not hasattr(Trainer(config, pictures(16), CPU).student.forward, "_orig_mod")


@pytest.mark.slow
def test_sampling_compiles_a_graph_for_each_size_of_a_batch(monkeypatch):
    """Also where guidance doubles some of the batches, and for a second model."""
    from torch._dynamo.backends.debugging import aot_eager

    sizes = []

    def backend(graph, inputs):
        sizes.append(next(value.shape[0] for value in inputs if value.ndim == 4 and value.shape[1:] == (1, 8, 8)))
        return aot_eager(graph, inputs)

    torch.compiler.reset()
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network, **how: compiler(network, backend=backend, **how))
    guidance = {"weight": 2.0, "interval": [0.3, 0.8]}
    for _ in range(2):
        options = {"compile": True, "guidance": guidance}
        config = small(model={"classes": 3}, sample=options)
        network = build.network(config.training()).eval()
        loaded = Loaded(network, config.training(), {"classes": {"names": ["a", "b", "c"], "counts": [1, 1, 1]}})
        plain, compiled = (
            Generator.of(loaded, config.sample.model_copy(update={"compile": on}), CPU) for on in (False, True)
        )
        for indices in (range(5), range(5, 10), range(10, 12)):
            ours, theirs = (generator.images(indices, 0).int() for generator in (compiled, plain))
            assert (ours - theirs).abs().max() <= 1
    assert sorted(sizes) == [2, 4, 5, 10]


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
