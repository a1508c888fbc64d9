"""The model that a training starts from, ``train.start_from``: whether it fits, its weights, and what it cost.

A model file holds an average of the weights; the network and its averages all begin with that. Fine-tuning changes the
data, the loss or the optimizer. Whatever gives the network's input and output their meaning has to be the same, unless
``train.start_may_differ`` names it: then weights that do not fit by name and shape are left at their init.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddpm.base import sections
from ddpm.base.errors import UserError
from ddpm.base.files import flatten, sha256
from ddpm.diffusion.loss import Loss
from ddpm.model.model_file import Loaded, load_model
from ddpm.model.model_params import ModelConfig
from ddpm.training.flops import step_flops
from ddpm.training.train_params import TrainingConfig

FREE = ("seed", "train", "diffusion.loss")  # what is no part of a model's meaning, but for a loss's own clock


def read(config: TrainingConfig) -> Loaded | None:
    """The model that ``config.train.start_from`` names, on the CPU; None if it names none.

    A relative path is relative to the repository root, also for an experiment in a folder of its own. Raises UserError
    if the file is missing or another one, or if that model differs in a key that ``train.start_may_differ`` does not
    name.
    """
    if config.train.start_from is None:
        return None
    name, _, expected = config.train.start_from.rpartition("@")
    path = Path(os.environ.get("DVC_ROOT", "."), name)
    try:
        if (digest := sha256(path)) != expected:
            raise UserError(f"{path}: its sha256 is {digest}; allowed: {expected}, or its own digest in params.yaml")
        model = load_model(path, torch.device("cpu"))
    except (OSError, UserError, ValueError) as error:
        raise UserError(f"train.start_from: {error}") from error
    ours, theirs = _meaning(config), _meaning(model.config)
    differing = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    refused = [key for key in differing if not sections.is_in(key, config.train.start_may_differ)]
    if refused:
        values = ", ".join(f"{key} ({theirs.get(key)} there, {ours.get(key)} here)" for key in refused)
        raise UserError(
            f"train.start_from: {path} differs in {values}; allowed: the same values, or train.start_may_differ: "
            f"[{', '.join(refused)}], which leaves weights that do not fit at their init"
        )
    return model


def start(network: nn.Module, config: TrainingConfig, main: bool) -> dict[str, float | None]:
    """Give the network the weights of ``train.start_from``, if it names a model. Returns what the file of the model
    that this training makes says about that; main: the rank that prints which weights are left at their init.

    Raises UserError like ``read``, or if there are some although ``train.start_may_differ`` names nothing.
    """
    if (model := read(config)) is None:
        return {}
    ours, theirs = network.state_dict(), model.network.state_dict()
    fresh = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    if fresh and not config.train.start_may_differ:
        raise UserError(
            f"train.start_from: its model has no {fresh[0]}, which diffusion.loss: {config.diffusion.loss.name} needs; "
            "allowed: a model that has it, or train.start_may_differ: [diffusion.loss], which leaves it at its init"
        )
    network.load_state_dict({name: theirs[name] for name in ours if name not in fresh}, strict=False)
    if fresh and main:
        print(f"train.start_from: left at their init: {', '.join(fresh)}", file=sys.stderr)
    return {"teacher_flops": training_flops(model)}


def training_flops(model: Loaded) -> float | None:
    """Operations of all training steps of a model, and of the models that it started from itself; None if its file
    does not tell."""
    try:
        config = sections.parse(dict(model.written), "its config", TrainingConfig)
    except UserError:
        return None
    steps, before = model.facts.get("steps"), model.facts.get("teacher_flops", None if config.train.start_from else 0.0)
    if not isinstance(steps, int) or not isinstance(before, int | float):
        return None
    return before + float(step_flops(config) * steps)


def _meaning(config: ModelConfig) -> Mapping[str, Any]:
    loss = config.diffusion.loss
    clock = {} if type(loss).clock is Loss.clock else {"diffusion.loss": loss.name}
    return {key: value for key, value in flatten(config.to_dict()).items() if not sections.is_in(key, FREE)} | clock
