"""Weight files: the model file, and how it and the checkpoints are written. Never a pickle."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ddpm.base.errors import UserError, blame
from ddpm.base.files import atomic_path, digest
from ddpm.base.sections import Shape, parse
from ddpm.base.variant import quote
from ddpm.model import build
from ddpm.model.layers import Backbone
from ddpm.model.model_params import ModelConfig

FORMAT = "ddpm-1"
METADATA = "ddpm"
CHECKSUM = "sha256"
HEADER = 2**22  # bytes that the list of tensors and the metadata may take: empty tensors need minutes, and no disk


class Loaded(NamedTuple):
    """A model file: the network with its (EMA) weights in eval mode, and the config that it was trained with.

    written: that config as plain values, including the ``train`` section, which sampling does not need.
    """

    network: Backbone
    config: ModelConfig
    facts: dict[str, Any]
    written: Mapping[str, Any] = MappingProxyType({})

    @property
    def image_shape(self) -> Shape:
        return self.config.data.shape

    @property
    def label_dropout(self) -> float | None:
        """None if the file does not say."""
        return self.written.get("train", {}).get("label_dropout")


def save_model(path: Path, tensors: dict[str, Tensor], config: ModelConfig, facts: dict[str, Any]) -> None:
    """Write weights with their whole config, so that nothing but the file is needed to sample.

    Raises UserError when a weight is not finite.
    """
    _check_finite(path, tensors)
    write_tensors(path, tensors, {"format": FORMAT, "config": config.to_dict(), "facts": facts})


def read_config(path: Path) -> Any:
    """The config that a model was trained with, as plain values, from the file's header. Raises UserError like
    read_tensors."""
    with _open_file(path, "model") as (_, metadata):
        return metadata.get("config")


def load_model(path: Path, device: torch.device) -> Loaded:
    """Raises UserError when the file is missing, is not a model file of this version, or does not fit its config."""
    tensors, metadata = read_tensors(path, "model", device)
    if metadata.get("format") != FORMAT:
        format_name = metadata.get("format", "none")
        raise UserError(f"{path}: model file format {format_name!r}, this version reads {FORMAT!r}: train it again")
    written: Any = metadata.get("config")
    untrained = {key: part for key, part in written.items() if key != "train"} if isinstance(written, dict) else written
    config = parse(untrained, str(path), ModelConfig)
    if not isinstance(train := written.get("train", {}), dict):
        raise UserError(f"{path}: train: {quote(train)} is not a mapping; not a model file of this project")
    try:
        with blame(path):  # before any memory is allocated for the config's network
            build.outline(config).load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        reasons = str(error).split("\n\t")[1:] or [str(error)]
        more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
        raise UserError(f"{path}: its weights do not fit its own config: {reasons[0]}{more}") from error
    _check_finite(path, tensors)
    network = build.network(config).to(device)
    network.load_state_dict(tensors)
    if not isinstance(facts := metadata.get("facts", {}), dict):
        raise UserError(f"{path}: its facts are not a mapping; not a model file of this project")
    return Loaded(network.eval().requires_grad_(False), config, facts, written)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """A safetensors file with ``metadata`` and a checksum of both; equal contents give equal bytes."""
    # one key, because safetensors writes several in a random order
    text = {METADATA: json.dumps(metadata | {CHECKSUM: _checksum(tensors, metadata)}, sort_keys=True)}
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, text)


def read_tensors(path: Path, kind: str, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file from ``write_tensors``. Raises UserError when it is missing, damaged or something
    else."""
    with _open_file(path, kind) as (file, metadata):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(tensors, metadata):
        raise UserError(f"{path}: damaged since this {kind} file was written: its checksum does not match")
    return {name: tensor.to(device) for name, tensor in tensors.items()}, metadata


@contextmanager
def _open_file(path: Path, kind: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The open file and its metadata; errors as in read_tensors."""
    try:
        with path.open("rb") as start:
            if (size := int.from_bytes(start.read(8), "little")) > HEADER:
                raise ValueError(f"a header of {size:,} bytes; allowed: {HEADER:,}")
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = json.loads((file.metadata() or {}).get(METADATA, "{}"))
            if not isinstance(metadata, dict):
                raise UserError(f"{path}: its metadata is not a mapping; not a {kind} file of this project")
            yield file, metadata
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such {kind} file") from error
    except (SafetensorError, OSError, RecursionError, ValueError) as error:  # ValueError also if not UTF-8 or JSON
        raise UserError(f"{path}: not a readable {kind} file of safetensors ({error}); pickles are refused") from error


def _check_finite(path: Path, tensors: dict[str, Tensor]) -> None:
    if broken := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise UserError(
            f"{path}: {broken[0]} and {len(broken) - 1} more of {len(tensors)} weights are not finite: train again "
            "with a lower train.learning_rate, or in float32"
        )


def _checksum(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """sha256 of names, types, shapes, values and metadata: safetensors itself does not notice a flipped bit."""
    checksum = hashlib.sha256(digest({key: value for key, value in metadata.items() if key != CHECKSUM}).encode())
    for name, tensor in sorted(tensors.items()):
        checksum.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        checksum.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return checksum.hexdigest()
