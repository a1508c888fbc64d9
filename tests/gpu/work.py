"""The real work on a device: the stages on one rank and on two, and steps of the article's network in each layout, with
their time."""

import os
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path

import torch

from ddpm.base.files import sha256
from ddpm.base.sections import parse
from ddpm.model.model_params import Model
from ddpm.training.trainer import Trainer
from tests.benchmarks.harness import synchronize
from tests.benchmarks.train import auto, pictures, preset
from tests.gpu.checks import Cases
from tests.gpu.report import Figures, LeftOut
from tests.small_project import QUICK, lay_out

TINY = {"base_channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_sizes": (16,), "groups": 4}
STEPS = 20  # timed, after two that warm up
BATCHES = (64, 256)
LAYOUTS = {
    "plain": {"channels_last": False, "compile": False},
    "channels_last": {"channels_last": True, "compile": False},
    "compiled": {"channels_last": True, "compile": True},
}
STAGES = ("download", "preprocess", "reference", "train", "sample", "evaluate")
RESULTS = ("data/model/model.safetensors", "data/samples/samples.npy")


def stages(device: torch.device, folder: Path) -> Cases:
    """All of them on the digits preset in small, as ``python -m stages NAME``; then the shared ones on two ranks."""

    def case(stage: str, ranks: int) -> Figures:
        project = folder / f"{ranks} ranks"
        if device.type == "cuda" and ranks > torch.cuda.device_count():
            raise LeftOut(f"{ranks} ranks need {ranks} GPUs")
        if not project.exists():
            project.mkdir()
            lay_out(project, **{**QUICK, "launch": {"processes": ranks}, "device": device.type})
        command, environment = [sys.executable, "-m", "stages", stage], os.environ | {"DDPM_TRACKING": "off"}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return {path: sha256(project / path) for path in RESULTS if (project / path).exists()}

    for ranks in (1, 2):
        for stage in STAGES:
            yield f"{stage}, {ranks} ranks", partial(case, stage, ranks)


def benchmark(device: torch.device, quick: bool) -> Cases:
    """Milliseconds of a step, and those of the host alone: where both are equal, the device waits for the host. Other
    libraries: ``make bench ARGS='train --device cuda'``."""

    def timed(layout: str, batch: int) -> Figures:
        config = preset("article", batch_size=batch, precision=auto(device), deterministic=False, **LAYOUTS[layout])
        if quick:
            model = {"name": "unet", "unet": {**config.model.model_dump()["unet"], **TINY}}
            config = config.model_copy(update={"model": parse(model, "model", Model)})
        trainer = Trainer(config.training(), pictures(config), device)
        for step in (1, 2):
            trainer.step(step)
        synchronize(device)
        begin, count = time.perf_counter(), 1 if quick else STEPS
        for step in range(3, count + 3):
            trainer.step(step)
        queued = time.perf_counter() - begin
        synchronize(device)
        whole = time.perf_counter() - begin
        ms, host_ms = (round(1000 * seconds / count, 3) for seconds in (whole, queued))
        return {"ms": ms, "host_ms": host_ms}

    layouts = [name for name, options in LAYOUTS.items() if not (quick and options["compile"])]  # minutes on a CPU
    batches = (2,) if quick else BATCHES
    for batch, layout in product(batches, layouts):
        yield f"{layout}, batch {batch}", partial(timed, layout, batch)
