"""Whether what is in data/ was made with the params that it is credited to.

DVC records params as they are when a stage's process has gone. An edit after the stage's last look at them,
``Start.refuse_changes``, credits its results to values that did not make them, in dvc.lock and in the run cache; `git
checkout` brings back a dvc.lock whose data are no longer here. So each stage leaves the identity of its section with
what it makes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ddpm.base import sections
from ddpm.base.errors import UserError
from ddpm.base.files import read_json
from ddpm.base.paths import MODEL_FILE, PROCESSED, REFERENCE, SAMPLE_FACTS
from ddpm.data.processed import read_manifest
from ddpm.params import file
from ddpm.params.config import Config, Scoring
from ddpm.training.train_params import TrainingConfig

# a place, the identity of what is there, and the identity of what params.yaml would put there
Made = tuple[Path, object, object]


def _preprocess(config: Scoring) -> Made:
    return PROCESSED, read_manifest(PROCESSED).config, config.data.identity()


def _reference(config: Scoring) -> Made:
    from ddpm.scoring.reference import read_reference

    index, images = read_reference(REFERENCE), read_manifest(PROCESSED).sha256
    return (
        REFERENCE,
        (index.config, index.images, index.held_out),
        (config.evaluate.reference_identity(), images["train"], images["test"]),
    )


def _train(config: Config) -> Made:
    from ddpm.model.model_file import read_config

    trained = sections.parse(read_config(MODEL_FILE), str(MODEL_FILE), TrainingConfig)
    return MODEL_FILE, trained.identity(), config.training().identity()


def _sample(config: Config) -> Made:
    return SAMPLE_FACTS, read_json(SAMPLE_FACTS, dict[str, Any]).get("config"), config.sample.identity()


STAGES: Mapping[str, Callable[[Any], Made]] = {
    "preprocess": _preprocess, "reference": _reference, "train": _train, "sample": _sample
}  # fmt: skip


def refuse_other_params(config: Scoring, *stages: str) -> None:
    """Raises UserError if other params than those of ``config`` made what the stages make, or if it is not there."""
    for stage in stages:
        place, actual, expected = STAGES[stage](config)
        if actual != expected:
            remedy = f"run `dvc repro {stage}` or, if that has nothing to do, `dvc repro -s -f {stage}`"
            raise UserError(f"{place}: made with other params than those in {file.PATH}: {remedy}")


def is_made(config: Config, stage: str) -> bool:
    """Whether what the stage makes is there, of these params."""
    try:
        refuse_other_params(config, stage)
    except UserError:
        return False
    return True
