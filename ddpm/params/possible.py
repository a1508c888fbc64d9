"""Whether params that are valid one by one are possible together, and here: on this machine, with these images."""

from typing import Any

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED
from ddpm.data.processed import check_classes, read_manifest
from ddpm.params import credit, file, inputs
from ddpm.params.config import Config
from ddpm.sampling.sample_params import class_number
from ddpm.sources import fetch


def refuse_impossible(config: Config, params: dict[str, Any]) -> None:
    """Raises UserError that names the key. params: all of params.yaml, from which ``config`` was made."""
    from ddpm.compute import devices, distributed
    from ddpm.model import build
    from ddpm.training import teacher

    _check_listed(params)
    fetched = inputs.on_record("download", params)
    if fetched and credit.is_made(config, "preprocess"):
        config.train.total(read_manifest(PROCESSED).counts["train"])  # raises UserError for a snapshot beyond the end
        names = check_classes(PROCESSED, config.model.classes) if config.model.classes else ()
        for name in config.sample.classes or ():
            class_number(name, names, len(names))
    if not fetched:
        fetch.check_source(config.data.dataset, config.data.source)
    devices.resolve(config.device)
    distributed.processes(config.launch.processes, config.device)
    build.outline(config)
    check_scores(config)
    teacher.read(config.training())


def check_scores(config: Config, train: int | None = None, classes: int | None = None) -> None:
    """Raises UserError if a metric cannot judge so many images, of so many channels, by these extractors. train,
    classes: the images to train on and their classes, if they are counted."""
    from ddpm.scoring import limits

    # without model.classes, enough for images without classes, whose extractor has more features
    strictest = config.evaluate.resolve(config.model.classes if classes is None else classes, config.data.channels)
    limits.check_channels(strictest, config.data.channels)
    if classes is not None:
        limits.check_classes(strictest, classes, config.data.dataset.name)
    real = {} if train is None else {"the train split": train}
    limits.check_counts(strictest, {"sample.count": config.sample.count} | real)


def _check_listed(params: dict[str, Any]) -> None:
    """Raises UserError when a key that dvc.yaml lists in a stage's ``params`` is missing, even if it has a default: DVC
    would delete that stage's outputs and then refuse to run it."""
    known = files.flatten(params)
    for stage in inputs.pipeline().values():
        for listed in stage.get("params", []):
            if isinstance(listed, str) and not any(f"{key}.".startswith(f"{listed}.") for key in known):
                raise UserError(f"{file.PATH}: {listed}: missing; every key that dvc.yaml lists must be present")
