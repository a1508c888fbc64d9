"""Model files and the snapshots next to them: a model with an average of another length (``ddpm.model.posthoc``)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddpm.base.errors import UserError, blame
from ddpm.base.files import digest
from ddpm.base.paths import AVERAGES
from ddpm.base.sections import parse
from ddpm.model.model_file import FORMAT, Loaded, load_model, read_tensors, write_tensors
from ddpm.model.posthoc import Posthoc

SNAPSHOT = "ddpm-ema-1"
CPU = torch.device("cpu")


def load(path: Path, length: float | None, device: torch.device) -> Loaded:
    """The model in a file; if there is a ``length``, with the average of that length, made from the snapshots in the
    folder ``ema`` next to the file. Its facts then say so.

    The weights are the same on every device. Raises UserError like ``load_model``, if there is no such average, or if a
    snapshot is missing, damaged or of another training.
    """
    model = load_model(path, device)
    if length is None:
        return model
    model.network.load_state_dict(_average(path, model, length))
    return model._replace(facts=model.facts | {"ema_length": length})


def save(path: Path, length: float, out: Path) -> None:
    """Write what ``load`` returns as a model file. Raises UserError as it does, or if ``out`` exists."""
    if out.exists():
        raise UserError(f"{out}: already exists: remove it, or choose another name with --out")
    model = load(path, length, CPU)
    write_tensors(out, model.network.state_dict(), {"format": FORMAT, "config": model.written, "facts": model.facts})


def write_snapshot(folder: Path, step: int, averages: dict[str, Tensor], config: str) -> None:
    """averages: (names as in ``ddpm.training.snapshots``); config: digest of the training's."""
    write_tensors(_snapshot(folder, step), averages, {"format": SNAPSHOT, "step": step, "config": config})


def _snapshot(folder: Path, step: int) -> Path:
    return folder / f"{step:09d}.safetensors"


def _average(path: Path, model: Loaded, length: float) -> dict[str, Tensor]:
    """The weighted sum of the snapshots, float32, added in float64."""
    train: Any = model.written.get("train")
    options = train.get("posthoc") if isinstance(train, dict) else None
    total = model.facts.get("steps")
    if not isinstance(options, dict) or not isinstance(total, int):
        raise UserError(
            f"{path}: trained without train.posthoc, so there is no average of length {length:g}: set it, for example "
            "to {lengths: [0.05, 0.1], snapshots: 16}, and train again"
        )
    posthoc = parse(options, str(path), Posthoc)
    with blame(path):
        weights = posthoc.weights(length, total)
    average = {name: torch.zeros_like(tensor, dtype=torch.float64, device=CPU)
               for name, tensor in model.network.state_dict().items()}  # fmt: skip
    trained_as = digest(dict(model.written))
    for column, step in enumerate(posthoc.steps(total)):
        snapshot = _snapshot(path.parent / AVERAGES.name, step)
        averages, metadata = read_tensors(snapshot, "snapshot", CPU)
        expected = {f"{number}.{name}": tensor.shape for number in (0, 1) for name, tensor in average.items()}
        if (
            metadata.get("config") != trained_as
            or {name: tensor.shape for name, tensor in averages.items()} != expected
        ):
            raise UserError(f"{snapshot}: of another training than {path}: run `dvc repro`")
        for number, weight in enumerate(weights[:, column]):
            for name, tensor in average.items():
                tensor.add_(averages[f"{number}.{name}"], alpha=float(weight))
    return {name: tensor.float() for name, tensor in average.items()}
