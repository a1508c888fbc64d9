"""The estimate of training's memory, before it starts."""

from __future__ import annotations

import pytest
import torch

from ddpm.base.errors import UserError
from ddpm.compute import devices
from ddpm.compute.distributed import ALONE
from ddpm.model import architecture
from ddpm.training import memory
from ddpm.training.memory import Memory
from tests.small import small

CPU = torch.device("cpu")


def test_weights_gradients_moments_and_averages_are_counted_exactly() -> None:
    config = small().training()
    found = memory.estimate(config, CPU)
    bytes_ = 4 * sum(parameter.numel() for parameter in architecture.build(config).parameters())
    assert (found.parameters, found.gradients, found.optimizer, found.ema) == (bytes_, bytes_, 2 * bytes_, bytes_)
    assert found.facts(8)["parameters"] == bytes_ // 4


def test_activations_grow_with_the_image_and_the_network() -> None:
    def activations(size: int, base: int) -> int:
        unet = {"base_channels": base, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
        config = small(data={"image_size": size}, model={"unet": unet}).training()
        return memory.estimate(config, CPU).activations

    base = activations(16, 8)
    assert activations(32, 8) / base == pytest.approx(4, rel=0.25)
    assert activations(16, 16) / base == pytest.approx(2, rel=0.25)


def test_activations_are_what_autograd_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sigmoid keeps its output, a product both its factors: x and sigmoid(x), float32, one image of 8x8."""

    class Gate(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1, 1, 1, 1))

        def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x_t * self.weight)

    monkeypatch.setattr(architecture, "build", lambda config: Gate())
    found = memory.estimate(small(train={"precision": "float32"}).training(), CPU)
    assert found.activations == 2 * 8 * 8 * 4  # x_t for the weight's gradient, the sigmoid's output for its own


def test_the_largest_batch_fits_and_its_double_does_not() -> None:
    needed = Memory(parameters=100, gradients=100, optimizer=200, ema=100, activations=7)
    batch = memory.fitting(needed, 3000)
    assert needed.total(batch) <= 3000 * memory.USABLE < needed.total(2 * batch)
    with pytest.raises(UserError, match="finds no room for one image"):
        memory.fitting(needed, 500)


def test_auto_is_for_gpus() -> None:
    config = small(train={"batch_size": "auto"}).training()
    with pytest.raises(UserError, match="auto fills a GPU's memory, and this is a CPU"):
        memory.whole_batch(config, CPU, ALONE)
    assert memory.whole_batch(small().training(), CPU, ALONE) == 8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_holds_about_what_was_estimated() -> None:
    from ddpm.training.trainer import Trainer
    from tests.small import pictures

    config = small(train={"batch_size": 64}, device="cuda").training()  # type: ignore[arg-type]
    device = devices.resolve("cuda")
    trainer = Trainer(config, pictures(), device)
    trainer.step(1)
    torch.cuda.reset_peak_memory_stats()
    trainer.step(2)
    assert torch.cuda.max_memory_allocated() < 2 * memory.estimate(config, device).total(64) + 50 * memory.MIB
