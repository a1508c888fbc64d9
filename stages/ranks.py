"""Stages that share their work out: on ``launch.processes`` ranks, which torchrun starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import stages
from ddpm import config, devices, distributed, inputs, params_file
from ddpm.config import Config
from ddpm.errors import exit_code


def run(name: str, main: Callable[[Config, str], None]) -> NoReturn:
    """As ``stages.run``, with ``main`` called on every rank. A process that torchrun has started is one of them."""

    def launch(part: Config, fingerprint: str) -> int | None:
        whole = config.load()
        count = distributed.processes(whole.launch.processes, whole.device)
        if count > 1:
            return distributed.launch(f"stages.{name}", count, fingerprint)
        main(part, fingerprint)
        return None

    def rank() -> None:
        whole = config.load()
        keys, _ = inputs.stage(name, params_file.read())
        fingerprint = os.environ.get(distributed.FINGERPRINT) or inputs.read(name).fingerprint()
        with distributed.joined(devices.resolve(whole.device)):
            main(whole.only(keys), fingerprint)

    devices.reuse_memory()
    if distributed.is_rank():
        launcher = os.environ.get(distributed.LAUNCHER)
        stages.die_with_parent(int(launcher) if launcher else None)
        sys.exit(exit_code(rank))
    stages.run(name, launch)
