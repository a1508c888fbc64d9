"""The runner: ``python -m stages NAME``. No stage imports it, and DVC does not watch it.

It reads params.yaml once, checks the stage's inputs before and after the run, starts the ranks and passes the config
on to them. It also passes in whatever watches a training, and records what is finished in MLflow. None of this can
change a value that a stage computes (tests/stages/test_start.py). An experiment runs all stages in one process
(stages/experiment.py).
"""

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from ddpm.base.errors import UserError, exit_code
from ddpm.base.machine import die_with_parent
from ddpm.compute import devices, distributed
from ddpm.params import config, credit, file, inputs
from ddpm.params.config import Config
from ddpm.params.inputs import Start

Stage = Callable[[Config, Start], None]


def check(checked: Config, start: Start) -> None:
    from stages import check

    check.main(checked, start.params)


def download(checked: Config, start: Start) -> None:
    from stages import download

    download.main(checked.data.dataset, checked.data.source)


def preprocess(checked: Config, start: Start) -> None:
    from stages import preprocess

    preprocess.main(checked.data)


def reference(checked: Config, start: Start) -> None:
    from stages import reference

    reference.main(checked.evaluate, devices.resolve(checked.device))


def train(checked: Config, start: Start) -> None:
    from ddpm.report.previews import Previews
    from ddpm.tracking import tracker
    from ddpm.training.checkpoints import Checkpoints
    from stages import train

    device, ranks = devices.resolve(checked.device), distributed.current()
    checkpoints = Checkpoints(start.fingerprint(), start.code())
    with tracker.Live(start.params, start.fingerprint()) as log:
        train.main(checked.training(), device, ranks, checkpoints, log, (Previews,))
        if ranks.main:
            start.refuse_changes()
            checkpoints.finish()


def sample(checked: Config, start: Start) -> None:
    from stages import sample

    sample.main(checked.sample, devices.resolve(checked.device), distributed.current(), start.films)


def evaluate(checked: Config, start: Start) -> None:
    from ddpm.runs import library
    from ddpm.tracking import tracker
    from stages import evaluate

    ranks = distributed.current()
    name = os.environ.get("DVC_EXP_NAME") or library.WORKSPACE
    origin = library.provenance(start)
    evaluate.main(checked.evaluate, checked.sample, devices.resolve(checked.device), ranks, origin, name)
    if ranks.main:
        start.refuse_changes()
        tracker.sync(start.params)


STAGES: Mapping[str, Stage] = {
    stage.__name__: stage for stage in (check, download, preprocess, reference, train, sample, evaluate)
}
SHARED = {"train", "sample", "evaluate"}  # stages that run on ``launch.processes`` ranks


def run(name: str) -> NoReturn:
    """Run the stage and exit, with 2 if an input changed while it ran (``Start.refuse_changes``).

    A shared stage runs on every rank; a process that torchrun started is one of them.
    """
    atexit.register(_leave_garbage)
    if name in SHARED:
        # before torch is imported: otherwise it prints 50 lines of C++ for a lost rank, which we report in one
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    devices.reuse_memory()
    launcher = os.environ.get(distributed.LAUNCHER)
    die_with_parent(int(launcher) if launcher else None)
    sys.exit(exit_code(lambda: (_rank if "RANK" in os.environ else run_here)(name)))


def _leave_garbage() -> None:
    """Skip the garbage collection at exit, which takes 0.5 s. But Triton's garbage is collected: otherwise nanobind
    reports it as leaks, in 25 lines."""
    if "triton" not in sys.modules:
        gc.freeze()


def preload() -> None:
    """Import what the stages import, for the processes that are forked from this one. CUDA stays untouched."""
    import torch._dynamo  # noqa: F401  # the first step of any optimizer imports it, with 800 modules
    import torch_fidelity  # noqa: F401  # two seconds, most of it for a network that nobody asks for

    from ddpm.report import previews  # noqa: F401
    from ddpm.tracking import tracker  # noqa: F401
    from stages import check, download, evaluate, preprocess, reference, sample, train  # noqa: F401


def prepare(device: str) -> str:
    """Set this process's memory and threads up for stages; return the name of the processor that ``device`` means."""
    devices.reuse_memory()
    return devices.processor(devices.resolve(device))


def run_here(name: str, films: bool = True) -> int | None:
    """Run the stage in the working folder, in this process or, for several ranks, below it. Returns the exit code of a
    failed rank. films: as in ``Start``. Raises UserError."""
    if name not in STAGES:
        raise UserError(f"stages: {name!r} is not a stage; allowed: {', '.join(STAGES)}")
    whole, start = begin(name, films)
    count = distributed.processes(whole.launch.processes, whole.device) if name in SHARED else 1
    if count > 1:
        return distributed.launch(["-m", "stages", name], count, json.dumps(start))
    STAGES[name](whole.only(start.keys), start)
    # last, after all tracking: from here on an edit is credited with the result (ddpm/params/credit.py)
    start.refuse_changes()
    return None


def _rank(name: str) -> None:
    if distributed.START in os.environ:
        start = Start(*json.loads(Path(os.environ[distributed.START]).read_text(encoding="utf-8")))
        whole = config.parse(start.params)
    else:  # torchrun was called by hand
        whole, start = begin(name)
    with distributed.join_group(devices.resolve(whole.device)):
        start.refuse_other_code()
        STAGES[name](whole.only(start.keys), start)
        if distributed.current().main:
            start.refuse_changes()  # as ``run_here`` does


def begin(name: str, films: bool = True) -> tuple[Config, Start]:
    """The whole config, and what the stage starts with. This is the only place where a stage reads params.yaml."""
    params = file.read_params()
    # before the inputs: for a wrong name its message is clearer than that of the missing file
    whole = config.parse(params)
    start = inputs.read_inputs(name, params)
    credit.refuse_other_params(whole, *(one for one in inputs.list_before(name, params) if one in credit.STAGES))
    return whole, start._replace(films=films)


if __name__ == "__main__":
    run(" ".join(sys.argv[1:]))
