"""Whether results were made with the params that they are credited to.

DVC records params as they are when a stage's process has gone. An edit after the stage's last look at them,
``Start.check``, credits its results to values that did not make them, in dvc.lock and in the run cache. So train,
sample and evaluate leave the identity of their settings with what they make.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddpm.base import paths, sections
from ddpm.base.errors import UserError
from ddpm.params import file
from ddpm.params.config import Config
from ddpm.training.train_params import TrainingConfig

LEFT = {
    "train": str(paths.METRICS / "train.json"),
    "sample": str(paths.METRICS / "sample.json"),
    "evaluate": str(paths.FINGERPRINT),
}


class Miscredited(UserError):
    """Results of other params than those that they are credited to."""


def check(config: Config, identities: Mapping[str, Any]) -> None:
    """Raises Miscredited if a stage's identity is not that of its settings in ``config``; None is not known."""
    expected = {"train": config.training(), "sample": config.sample, "evaluate": config.evaluate}
    for stage, identity in identities.items():
        if identity not in (None, expected[stage].identity()):
            raise Miscredited(
                f"{file.PATH}: other values than these made the results of the {stage} stage, so it was edited as the "
                f"stage ended, or files were copied; run `dvc repro --force {stage}`"
            )


def recorded(stages: Iterable[str] = LEFT, files: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """Stage -> identity, from metrics/, or ``files`` by path; None if it is not there or not readable,
    which whoever reads its numbers reports."""
    identities = dict.fromkeys(stages)
    for stage in identities:
        with suppress(OSError, LookupError, TypeError, ValueError, RecursionError):
            text = Path(LEFT[stage]).read_bytes() if files is None else files[LEFT[stage]]
            identities[stage] = json.loads(text)["config"]
    return identities


def of_model(path: Path) -> str:
    """The identity of the params that made a model file. Raises UserError if it does not have them all."""
    from ddpm.model.model_file import written

    return sections.parse(written(path), str(path), TrainingConfig).identity()
