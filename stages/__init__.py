"""The stages of dvc.yaml: each loads its config, calls ddpm and writes its outs. Run as ``python -m stages.X``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from ddpm import config, inputs
from ddpm.config import Config
from ddpm.errors import UserError, exit_code


def run(name: str, work: Callable[[Config, str], int | None]) -> NoReturn:
    """Call ``work(config, fingerprint)`` with what dvc.yaml lists for the stage, and exit with what it returns.

    Raises UserError, hence exit code 2, when a dependency changed while the stage ran: its outs would be recorded
    as made by code or data that did not make them.
    """

    def guarded() -> int:
        loaded = config.load()  # before the inputs: it says more about a wrong name than the file that is missing
        before = inputs.read(name)
        code = work(loaded.only(before.params), before.fingerprint()) or 0
        after = inputs.read(name)
        changed = [file for file in before.files if before.files[file] != after.files.get(file)]
        if changed and not code:
            raise UserError(f"{changed[0]}: changed while the {name} stage ran; run `dvc repro` again")
        return code

    die_with_parent()
    sys.exit(exit_code(guarded))


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
