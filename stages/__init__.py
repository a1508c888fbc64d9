"""The stages of dvc.yaml: each loads its config, calls ddpm and writes its outs. Run as ``python -m stages.X``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from ddpm import config, devices, distributed, inputs
from ddpm.config import Config
from ddpm.errors import UserError, exit_code

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
REFERENCE = Path("data/reference")
MODEL = Path("data/model")
SAMPLES = Path("data/samples")
METRICS = Path("metrics")


def run(name: str, main: Callable[[Config, str], None], ranks: bool = False) -> None:
    """Call ``main(config, fingerprint)`` with what dvc.yaml lists for the stage, and exit.

    With ``ranks`` it is called on ``launch.processes`` processes. Raises UserError, hence exit code 2, when a
    dependency changed while the stage ran: its outs would be recorded as made by code or data that did not make them.
    """

    def guarded() -> int:
        loaded = config.load()  # before the inputs: it says more about a wrong name than the file that is missing
        before = inputs.read(name)
        part, fingerprint = loaded.only(before.params), before.fingerprint()
        count = distributed.processes(loaded.launch.processes, loaded.device) if ranks else 1
        if count > 1:
            code = distributed.launch(f"stages.{name}", count, fingerprint)
        else:
            code = 0
            main(part, fingerprint)
        after = inputs.read(name)
        changed = [file for file in before.files if before.files[file] != after.files.get(file)]
        if changed and not code:
            raise UserError(f"{changed[0]}: changed while the {name} stage ran; run `dvc repro` again")
        return code

    def rank() -> None:
        loaded = config.load()
        keys, _ = inputs.stage(name, config.read())
        fingerprint = os.environ.get(distributed.FINGERPRINT) or inputs.read(name).fingerprint()
        with distributed.joined(devices.resolve(loaded.device)):
            main(loaded.only(keys), fingerprint)

    distributed.die_with_parent()
    sys.exit(exit_code(rank if distributed.is_rank() else guarded))
