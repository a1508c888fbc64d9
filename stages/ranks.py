"""Stages that share their work out: on ``launch.processes`` ranks, which torchrun starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import stages
from ddpm.base.errors import exit_code
from ddpm.compute import devices, distributed
from ddpm.params import config, file
from ddpm.params.config import Config
from ddpm.params.inputs import Start


def run(name: str, main: Callable[[Config, Start], None]) -> NoReturn:
    """As ``stages.run``, with ``main`` called on every rank. A process that torchrun has started is one of them.

    The main rank's ``main`` calls ``Start.check`` itself: after its last output, before MLflow is told of it.
    """

    def launch() -> int | None:
        whole, start = stages.begin(name)
        count = distributed.processes(whole.launch.processes, whole.device)
        if count > 1:
            return distributed.launch(f"stages.{name}", count, start.to_json())
        main(whole.only(start.inputs.params), start)
        return None

    def rank() -> None:
        if distributed.START in os.environ:
            start = Start.from_json(Path(os.environ[distributed.START]).read_text())
            whole: Config = config.check(start.params, str(file.PATH))
        else:  # torchrun was called by hand
            whole, start = stages.begin(name)
        with distributed.joined(devices.resolve(whole.device)):
            main(whole.only(start.inputs.params), start)

    devices.reuse_memory()
    if distributed.is_rank():
        launcher = os.environ.get(distributed.LAUNCHER)
        stages.die_with_parent(int(launcher) if launcher else None)
        sys.exit(exit_code(rank))
    stages.die_with_parent()
    sys.exit(exit_code(launch))
