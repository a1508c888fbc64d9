"""The real work on a device: the stages on one rank and on two, training steps next to other libraries', and where
three of them spend their time."""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from ddpm.base.files import sha256
from ddpm.base.sections import parse
from ddpm.model import build
from ddpm.model.model_params import Model
from ddpm.params.config import Config
from ddpm.training.trainer import Trainer
from tests.benchmarks import harness, table
from tests.benchmarks.harness import Case
from tests.benchmarks.train import LIBRARIES, auto, pictures, plain, preset
from tests.gpu.checks import Cases
from tests.gpu.report import Figures, LeftOut
from tests.small_project import QUICK, lay_out

TINY = {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (16,), "groups": 4}
STEPS, PROFILED, KERNELS = 10, 3, 40  # between two waits for the device; in the profile; rows that it shows
BATCHES = (64, 256)
OURS = {
    "ours": {},
    "ours, channels_last": {"channels_last": True},
    "ours, compiled": {"channels_last": True, "compile": True},
}
STAGES = ("download", "preprocess", "reference", "train", "sample", "evaluate")
RESULTS = ("data/model/model.safetensors", "data/samples/samples.npy")


def stages(device: torch.device, folder: Path) -> Cases:
    """All of them on the digits preset in small, as ``python -m stages NAME``; then the shared ones on two ranks."""
    for ranks in (1, 2):
        project = folder / f"{ranks} ranks"

        def case(stage: str, ranks: int = ranks, project: Path = project) -> Figures:
            if device.type == "cuda" and ranks > torch.cuda.device_count():
                raise LeftOut(f"{ranks} ranks need {ranks} GPUs")
            if not project.exists():
                project.mkdir()
                lay_out(project, **{**QUICK, "launch": {"processes": ranks}, "device": device.type})
            command, environment = [sys.executable, "-m", "stages", stage], os.environ | {"DDPM_TRACKING": "off"}
            done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
            return {path: sha256(project / path) for path in RESULTS if (project / path).exists()}

        for stage in STAGES:
            yield f"{stage}, {ranks} ranks", partial(case, stage)


def article(device: torch.device, batch: int, quick: bool) -> Config:
    """The article's network, tiny if ``quick``, in the precision that ``auto`` selects here."""
    base = preset("article", batch_size=batch, precision=auto(device), deterministic=False)
    base = base.model_copy(update={"train": base.train.model_copy(update={"channels_last": False, "compile": False})})
    if quick:
        model = {"name": "unet", "unet": {**base.model.model_dump()["unet"], **TINY}}
        base = base.model_copy(update={"model": parse(model, "model", Model)})
    return base


def ours(base: Config, name: str, device: torch.device) -> Trainer:
    config = base.model_copy(update={"train": base.train.model_copy(update=OURS[name])})
    return Trainer(config.training(), pictures(config), device)


def benchmark(device: torch.device, quick: bool, end: float, results: harness.Results) -> Cases:
    """Steps of the article's network at equal precision, and the peak measured next to them. results: gets a timing of
    each case."""
    for peak in [] if quick else harness.peaks(auto(device), device):
        yield peak.name, partial(measure, peak, 5, results)
    for batch in (2,) if quick else BATCHES:
        for name, make in makers(device, batch, quick):
            yield f"{name}, batch {batch}", partial(_timed, name, make, batch, device, quick, end, results)


# a network, and a function of the number of a step
Steps = tuple[torch.nn.Module, Callable[[int], object]]


def makers(device: torch.device, batch: int, quick: bool) -> Iterator[tuple[str, Callable[[], Steps]]]:
    """A name, and what makes its steps."""
    base = article(device, batch, quick)

    def mine(name: str) -> Steps:
        trainer = ours(base, name, device)
        return build.network(trainer.config), trainer.step

    def theirs(name: str) -> Steps:
        try:
            network, loss = LIBRARIES[name](device, 8 if quick else 64)
        except ModuleNotFoundError as error:
            raise LeftOut(str(error)) from error
        step = plain(network, loss, pictures(base), batch, auto(device), device)
        return network, lambda _: step()

    for name, options in OURS.items():
        if not (quick and options.get("compile")):  # minutes on a CPU
            yield name, partial(mine, name)
    for name in LIBRARIES:
        yield name, partial(theirs, name)


def _timed(
    name: str, make: Callable[[], Steps], batch: int, device: torch.device, quick: bool, end: float,
    results: harness.Results,
) -> Figures:  # fmt: skip
    """The time of a step, and of the host alone: where both are equal, the device waits for the host."""
    if time.monotonic() > end - 60:
        raise LeftOut("no time left")
    (network, step), count, numbers = make(), 1 if quick else STEPS, itertools.count(1)
    queued: list[float] = []

    def run() -> None:
        begin = time.perf_counter()
        for number in itertools.islice(numbers, count):
            step(number)
        queued.append((time.perf_counter() - begin) / count)
        harness.synchronize(device)

    flops = harness.network_flops(network, (3, 32, 32)) * batch * count
    case = Case(f"{name}, batch {batch}", auto(device), run, batch * count, flops)
    figures = measure(case, 1 if quick else 5, results)
    step_ms, host_ms = (
        1e3 * figures["seconds"]["median"] / count,
        1e3 * statistics.median(queued[len(queued) // 2 :]),
    )  # warm
    return {**figures, "ms": round(step_ms, 3), "host_ms": round(host_ms, 3)}


def measure(case: Case, rounds: int, results: harness.Results) -> dict:
    timings = harness.measure([case], rounds)
    results |= timings
    (figures,) = table.record(timings)["timings"].values()
    return figures


def profile(device: torch.device, quick: bool) -> Cases:
    """Three steps by kernel, for each layout, after two that warm up."""

    def case(name: str) -> Figures:
        trainer = ours(article(device, 2 if quick else BATCHES[0], quick), name, device)
        numbers = itertools.count(1)
        for number in itertools.islice(numbers, 2):
            trainer.step(number)
        harness.synchronize(device)
        kinds = torch.profiler.supported_activities()
        with torch.profiler.profile(activities=kinds) as profiler:
            for number in itertools.islice(numbers, PROFILED):
                trainer.step(number)
            harness.synchronize(device)
        rows = profiler.key_averages()
        own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        rows = sorted(rows, key=lambda row: -getattr(row, own))[:KERNELS]
        return {"rows": [{"name": row.key, "calls": row.count, "us": round(getattr(row, own), 1)} for row in rows]}

    for name, options in OURS.items():
        if not (quick and options.get("compile")):
            yield name, partial(case, name)
