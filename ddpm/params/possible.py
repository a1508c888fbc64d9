"""Whether params that are valid one by one are possible together, and here: on this machine, with these images."""

from __future__ import annotations

from typing import Any

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED
from ddpm.data.processed import check_classes, read_manifest
from ddpm.params import credit, file, inputs
from ddpm.params.config import Config
from ddpm.sampling.sample_params import class_number


def refuse_impossible(config: Config, params: dict[str, Any], before: dict[str, Any]) -> None:
    """Raises UserError that names the key.

    params: all of params.yaml, from which ``config`` was made; before: the params in dvc.lock, which were valid when
    the check stage last ran. What takes seconds is checked only if one of its keys has changed since.
    """
    _check_listed(params)
    was, now = files.flatten(before), files.flatten(params)
    new = {key for key in was.keys() | now.keys() if was.get(key) != now.get(key)}
    prepared = inputs.on_record("download", params) and credit.is_made(config, "preprocess")
    if prepared and config.train.snapshots:
        config.train.total(read_manifest(PROCESSED).counts["train"])  # raises UserError for one beyond the end
    if prepared and config.model.classes:
        names = check_classes(PROCESSED, config.model.classes)
        for name in config.sample.classes or ():
            class_number(name, names, len(names))
    for keys, part in SLOW.items():
        if any(f"{changed}.".startswith(tuple(f"{key}." for key in keys)) for changed in new):
            part(config.only(keys))


def check_scores(config: Config, train: int | None = None) -> None:
    """Raises UserError if a metric cannot judge so many images, of so many channels, by these extractors. train: the
    images to train on, if they are counted."""
    from ddpm.scoring import limits

    # without model.classes, enough for images without classes, whose extractor has more features
    strictest = config.evaluate.resolve(config.model.classes, config.data.channels)
    limits.check_channels(strictest, config.data.channels)
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


def _check_source(config: Config) -> None:
    from ddpm.sources import fetch

    fetch.check_source(config.data.dataset, config.data.source)


def _check_machine(config: Config) -> None:
    from ddpm.compute import devices, distributed

    devices.resolve(config.device)
    distributed.processes(config.launch.processes, config.device)


def _check_network(config: Config) -> None:
    from ddpm.model import build

    build.outline(config)


def _check_teacher(config: Config) -> None:
    if config.train.start_from is not None:
        from ddpm.training import teacher

        teacher.read(config.training())


# what each reads of the config; they import torch, or look outside the project's folder
SLOW = {
    ("data.dataset", "data.source"): _check_source,
    ("device", "launch"): _check_machine,
    ("data.image_size", "data.channels", "diffusion.variance", "diffusion.loss", "model"): _check_network,
    ("data.channels", "sample.count", "evaluate", "model.classes"): check_scores,
    ("seed", "data.image_size", "data.channels", "train", "diffusion", "model"): _check_teacher,
}
