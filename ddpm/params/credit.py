"""Whether results were made with the params that they are credited to.

DVC records params as they are when a stage's process has gone. An edit after the stage's last look at them,
``Start.check``, credits its results to values that did not make them, in dvc.lock and in the run cache. So train and
sample leave the identity of their sections with what they make.
"""

from __future__ import annotations

from typing import Any

from ddpm.base import sections
from ddpm.base.errors import UserError
from ddpm.base.files import read_json
from ddpm.base.paths import MODEL_FILE, SAMPLE_FACTS
from ddpm.params import file
from ddpm.params.config import Config
from ddpm.training.train_params import TrainingConfig


def check(config: Config, drawn: bool) -> None:
    """Raises UserError if other params than those of ``config`` made the model or, if they are ``drawn``, its samples;
    or if the model file does not have all of its params."""
    from ddpm.model.model_file import written

    trained = sections.parse(written(MODEL_FILE), str(MODEL_FILE), TrainingConfig)
    identities = {"train": (trained.identity(), config.training().identity())}
    if drawn:
        identities["sample"] = read_json(SAMPLE_FACTS, dict[str, Any]).get("config"), config.sample.identity()
    for stage, (recorded, expected) in identities.items():
        if recorded not in (None, expected):
            raise UserError(
                f"{file.PATH}: the results of the {stage} stage were made with other values, so it was edited as the "
                f"stage ended, or files were copied; run `dvc repro --force {stage}`"
            )
