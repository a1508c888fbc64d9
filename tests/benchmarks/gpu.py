"""Training throughput over batch sizes on a GPU, and what a step's time goes to.

    python -m tests.benchmarks.gpu [--device cuda] [--quick] [--compile] [--channels-last] [--precision bfloat16]

Networks: the article's, the CIFAR-10 paper's, DiT-S/2 and DiT-B/2 on 32x32 images. For each batch size images/s,
TFLOP/s and the share of the fastest of two kernels measured next to it; then the profile's top rows at the largest
batch that fits. ``--device cpu --quick`` runs the same code on tiny networks.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from typing import Any

import torch

from ddpm.base.errors import exit_code
from ddpm.base.sections import section
from ddpm.compute import devices
from ddpm.model import build
from ddpm.model.model_params import Model
from ddpm.params.config import Config
from ddpm.training.trainer import Trainer
from tests.benchmarks import harness, table
from tests.benchmarks.harness import Case
from tests.benchmarks.train import pictures, preset

BATCHES = (32, 64, 128, 256, 512, 1024)
STEPS = 10  # between two synchronizations: a GPU must not wait for Python
PROFILED = 12  # rows
DIT_B = {"depth": 12, "width": 768, "heads": 12}
# name -> preset, and the model that replaces its own
NETWORKS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "article": ("article", None),
    "CIFAR-10 paper": ("cifar10", None),
    "DiT-S/2": ("cifar10", {"name": "dit", "dit": {}}),
    "DiT-B/2": ("cifar10", {"name": "dit", "dit": DIT_B}),
}
TINY = {
    "unet": {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (16,), "groups": 4},
    "dit": {"depth": 1, "width": 32, "heads": 2},
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> None:
    device, machine = devices.resolve(parsed.device), harness.ThisMachine()
    precision = str(devices.precision(parsed.precision, device)).removeprefix("torch.")
    rounds, count = (1, 1) if parsed.quick else (5, STEPS)
    results = harness.measure(harness.peaks(precision, device), rounds, machine)
    profiles = []
    for name in NETWORKS:
        chosen = network(name, parsed, precision)
        shape = chosen.data.shape
        flops = harness.network_flops(build.network(chosen.training()), shape)
        fits = 0
        for batch in (2,) if parsed.quick else BATCHES:
            try:
                items = batch * count
                case = Case(
                    f"{name}, batch {batch}", precision, steps(chosen, batch, device, count), items, flops * items
                )
                results |= harness.measure([case], rounds, machine)
            except torch.cuda.OutOfMemoryError:
                print(f"{name}: a batch of {batch} does not fit", file=sys.stderr)
                break
            fits = batch
        if fits:
            profiles.append(f"{name}, batch {fits}\n{profile(steps(chosen, fits, device, count), device)}")
    print(", ".join(f"{key} {value}" for key, value in table.describe(device).items()), end="\n\n")
    print(table.table(results, []), *profiles, sep="\n\n")


def network(name: str, parsed: argparse.Namespace, precision: str) -> Config:
    """The experiment that trains it."""
    base, model = NETWORKS[name]
    chosen = preset(
        base, precision=precision, compile=parsed.compile, channels_last=parsed.channels_last, deterministic=False
    )
    value = model or chosen.model.model_dump()
    if parsed.quick:
        value = {**value, value["name"]: {**value.get(value["name"], {}), **TINY[value["name"]]}}
    return chosen.model_copy(update={"model": section(Model, value)})


def steps(chosen: Config, batch: int, device: torch.device, count: int) -> Callable[[], None]:
    """``count`` training steps of ``batch`` images, then a wait for the device."""
    resized = chosen.model_copy(update={"train": chosen.train.model_copy(update={"batch_size": batch})})
    trainer, numbers = Trainer(resized.training(), pictures(resized), device), itertools.count(1)

    def run() -> None:
        for number in itertools.islice(numbers, count):
            trainer.step(number)
        harness.synchronize(device)

    return run


def profile(step: Callable[[], None], device: torch.device) -> str:
    """The operators that take the most time."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recorded

    step()
    cuda = device.type == "cuda"
    with recorded(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as found:
        step()
    kind = "cuda" if cuda else "cpu"
    order = f"self_{kind}_time_total"
    return str(found.key_averages().table(sort_by=order, row_limit=PROFILED, max_name_column_width=60))


if __name__ == "__main__":
    main()
