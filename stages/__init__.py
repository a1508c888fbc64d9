"""The stages of dvc.yaml: each loads its config, calls ddpm and writes its outs. Run as ``python -m stages.X``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from ddpm.base.errors import exit_code
from ddpm.params import config, file, inputs
from ddpm.params.config import Config
from ddpm.params.inputs import Start


def run(name: str, main: Callable[[Config, Start], None]) -> NoReturn:
    """Call ``main`` with the part of the config that dvc.yaml lists for the stage, and exit.

    Exit code 2 when a dependency or a value changed while the stage ran: ``Start.check``.
    """

    def guarded() -> None:
        whole, start = begin(name)
        main(whole.only(start.inputs.params), start)
        start.check()

    die_with_parent()
    sys.exit(exit_code(guarded))


def begin(name: str) -> tuple[Config, Start]:
    """The whole config, and all that the stage starts with. params.yaml is read here and nowhere else in a stage."""
    params = file.read()
    # before the inputs: it says more about a wrong name than the file that is missing
    whole: Config = config.check(params, str(file.PATH))
    return whole, Start(name, params, inputs.read(name, params=params))


def die_with_parent(parent: int | None = None) -> None:
    """On Linux this process gets SIGTERM when its parent dies: a killed ``dvc repro`` leaves no orphan at work.

    Raises SystemExit when it has died already, while this process was starting: it is not the process ``parent``, or,
    under DVC, not in DVC's process group, as who takes in orphans is not.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    now = os.getppid()
    orphan = now != parent if parent else "DVC_STAGE" in os.environ and os.getpgid(now) != os.getpgrp()
    if orphan:
        sys.exit(128 + signal.SIGTERM)
