"""The first hour on a GPU, in ten minutes: what must hold, then training steps against other libraries.

    make gpu
    python -m tests.gpu [--device cuda] [--quick] [--minutes 10] [--out docs/gpu.json]

It installs nothing: a library that is not there is left out, and the table says so. ``make gpu ARGS='--device cpu
--quick'`` runs the same code on tiny networks. A check that fails stops no other one.
"""

import argparse
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ddpm.base.errors import UserError, exit_code
from ddpm.base.files import write_json
from ddpm.base.sections import parse
from ddpm.compute import devices
from ddpm.model import build
from ddpm.model.model_params import Model
from ddpm.training.trainer import Trainer
from tests.benchmarks import harness, table
from tests.benchmarks.harness import Case
from tests.benchmarks.train import LIBRARIES, auto, pictures, plain, preset
from tests.gpu.checks import CHECKS

OUT = Path("docs/gpu.json")
TINY = {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (16,), "groups": 4}
STEPS = 10  # between two waits for the device
BATCHES = (64, 256)
OURS = {
    "ours": {},
    "ours, channels_last": {"channels_last": True},
    "ours, compiled": {"channels_last": True, "compile": True},
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=OUT)
    parsed = parser.parse_args(arguments)
    sys.exit(exit_code(lambda: run(parsed)))


def run(parsed: argparse.Namespace) -> None:
    """Raises UserError without such a device, or if a check fails."""
    end = time.monotonic() + 60 * parsed.minutes
    device, out = devices.resolve(parsed.device), parsed.out.absolute()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        failed = {check.__name__: _reason(check, device, Path(scratch)) for check in CHECKS}
        write_json(out, {"checks": failed})  # whatever comes of the benchmark
    results, left_out = benchmark(device, parsed.quick, end)
    described = table.describe(device)
    write_json(out, {"machine": described, "checks": failed, "left_out": left_out, **table.record(results)})
    print(", ".join(f"{name} {value}" for name, value in described.items()), end="\n\n")
    print(table.table(results), *(f"{name}: {reason}" for name, reason in left_out.items()), "", out, sep="\n")
    if broken := [name for name, reason in failed.items() if reason]:
        raise UserError(f"make gpu: {', '.join(broken)} failed; {out} has the reasons")


def _reason(check: Callable[[torch.device, Path], None], device: torch.device, folder: Path) -> str:
    """Why it failed; nothing if it passed. Prints either."""
    begin, reason = time.monotonic(), ""
    try:
        check(device, folder)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    print(f"{time.monotonic() - begin:6.1f} s  {check.__name__}: {reason or 'passed'}", flush=True)
    return reason


def benchmark(device: torch.device, quick: bool, end: float) -> tuple[harness.Results, dict[str, str]]:
    """Steps of the article's network at equal precision, the peak measured next to them, and what was left out."""
    precision = auto(device)
    results = harness.measure([] if quick else harness.peaks(precision, device), 5)
    left_out: dict[str, str] = {}
    for batch in (2,) if quick else BATCHES:
        cases = []
        for name, make in makers(device, precision, batch, quick):
            if time.monotonic() > end - 60:
                left_out[f"{name}, batch {batch}"] = "no time left"
                continue
            try:
                case = make()
                case.run()
                cases.append(case)
            except (ModuleNotFoundError, UserError, torch.cuda.OutOfMemoryError) as error:
                left_out[f"{name}, batch {batch}"] = str(error).partition("\n")[0]
        results |= harness.measure(cases, 1 if quick else 5)
    return results, left_out


def makers(device: torch.device, precision: str, batch: int, quick: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    """A name, and what makes the case of so many images a step; each is warm after one call."""
    count = 1 if quick else STEPS
    base = preset("article", batch_size=batch, precision=precision, deterministic=False)
    if quick:
        model = {"name": "unet", "unet": {**base.model.model_dump()["unet"], **TINY}}
        base = base.model_copy(update={"model": parse(model, "model", Model)})

    def case(name: str, network: torch.nn.Module, step: Callable[[int], object]) -> Case:
        numbers = itertools.count(1)

        def run() -> None:
            for number in itertools.islice(numbers, count):
                step(number)
            harness.synchronize(device)

        flops = harness.network_flops(network, base.data.shape) * batch * count
        return Case(f"{name}, batch {batch}", precision, run, batch * count, flops)

    def ours(name: str) -> Case:
        config = base.model_copy(update={"train": base.train.model_copy(update=OURS[name])})
        trainer = Trainer(config.training(), pictures(config), device)
        return case(name, build.network(config.training()), trainer.step)

    def theirs(name: str) -> Case:
        network, loss = LIBRARIES[name](device, 8 if quick else 64)
        step = plain(network, loss, pictures(base), batch, precision, device)
        return case(name, network, lambda _: step())

    for name, options in OURS.items():
        if not (quick and options.get("compile")):  # minutes on a CPU
            yield name, lambda name=name: ours(name)
    for name in LIBRARIES:
        yield name, lambda name=name: theirs(name)


if __name__ == "__main__":
    main()
