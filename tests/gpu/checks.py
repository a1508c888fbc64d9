"""Checks of a training on a device. Each raises AssertionError or torch's own error if it fails."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from ddpm.base.files import sha256
from ddpm.compute import devices
from ddpm.tools import forecast
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from tests.small import Memory, pictures, small

MARGIN = 1.1  # the estimate is a line through two batches


def trained(device: torch.device, out: Path) -> str:
    """The digest of a model that was trained in the working directory."""
    train(small().training(), pictures(), device, out, Checkpoints(out.name), Memory())
    return sha256(out / "model.safetensors")


def the_same_bytes_twice(device: torch.device, folder: Path) -> None:
    assert trained(device, folder / "a") == trained(device, folder / "b")


def resumes_to_the_same_bytes(device: torch.device, folder: Path) -> None:
    whole, out, checkpoints = trained(device, folder / "e"), folder / "f", Checkpoints("f")

    def stop(step: int) -> None:
        if step == 7:
            raise InterruptedError

    with suppress(InterruptedError):
        train(small().training(), pictures(), device, out, checkpoints, Memory(), [lambda *_: stop])
    assert not (out / "model.safetensors").exists()
    train(small().training(), pictures(), device, out, checkpoints, Memory())
    assert sha256(out / "model.safetensors") == whole


def no_step_waits(device: torch.device, folder: Path) -> None:
    """torch raises an error at any wait within a step."""
    trainer = Trainer(small().training(), pictures(), device)
    trainer.step(1)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for step in (2, 3):
            trainer.step(step)
    finally:
        if cuda:
            torch.cuda.set_sync_debug_mode("default")


def memory_stays_under_the_estimate(device: torch.device, folder: Path) -> None:
    config = small()
    estimate = forecast.measure(config).memory
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer(config.training(), pictures(), device)
    for step in (1, 2, 3):
        trainer.step(step)
    assert devices.peak_memory(device) <= MARGIN * estimate


CHECKS: tuple[Callable[[torch.device, Path], None], ...] = (
    the_same_bytes_twice,
    resumes_to_the_same_bytes,
    no_step_waits,
    memory_stays_under_the_estimate,
)
