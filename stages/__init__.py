"""The stages of dvc.yaml: each loads its config, calls ddpm and writes its outs. Run as ``python -m stages.X``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ddpm import config, inputs
from ddpm.config import Config
from ddpm.errors import UserError, exit_code

RAW = Path("data/raw")
PROCESSED = Path("data/processed")
REFERENCE = Path("data/reference")
MODEL = Path("data/model")
SAMPLES = Path("data/samples")
METRICS = Path("metrics")


def run(name: str, main: Callable[[Config, str], None]) -> None:
    """Call ``main(config, fingerprint)`` with what dvc.yaml lists for the stage, and exit.

    Raises UserError, hence exit code 2, when a dependency changed while the stage ran: its outs would be recorded
    as made by code or data that did not make them.
    """

    def guarded() -> None:
        loaded = config.load()  # before the inputs: it says more about a wrong name than the file that is missing
        before = inputs.read(name)
        main(loaded.only(before.params), before.fingerprint())
        after = inputs.read(name)
        changed = [file for file in before.files if before.files[file] != after.files.get(file)]
        if changed:
            raise UserError(f"{changed[0]}: changed while the {name} stage ran; run `dvc repro` again")

    sys.exit(exit_code(guarded))
