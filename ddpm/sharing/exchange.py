"""Models to share: ``ddpm export`` and ``ddpm import``.

A folder of format ``ddpm`` holds the model file as it is, with a card. A folder of format ``diffusers`` loads with
``DDPMPipeline.from_pretrained`` and ``DDIMPipeline.from_pretrained``, or with ``UNet2DModel.from_pretrained`` if the
model has classes; its ``METADATA`` keeps what that library has no place for, so that the model comes back bit for bit.
diffusers is not needed to write or read either.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, sha256, write_json
from ddpm.base.sections import parse
from ddpm.model import build
from ddpm.model.model_file import FORMAT, Loaded, load_model, save_model
from ddpm.model.model_params import ModelConfig
from ddpm.sharing import card, diffusers_chain, diffusers_unet
from ddpm.sharing.diffusers_chain import Scheduler
from ddpm.sharing.diffusers_unet import UNet2D
from ddpm.training.train_params import TrainingConfig
from ddpm.variants.networks.unet import UNet

MODEL = "model.safetensors"
METADATA = "ddpm.json"
DIFFUSERS = "0.32.0"  # the oldest version that the written folders are meant for
UNET, UNET_WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
MAX_JSON_BYTES = 2**22
EMA_KEYS = {"decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"}
CPU = torch.device("cpu")
FORMATS = ("ddpm", "diffusers")

# Fills the ``train`` section of a model imported without METADATA; nothing in sampling reads it.
UNKNOWN = ["seed", "diffusion.loss", "train"]
STAND_IN: dict[str, Any] = {
    "steps": 1,
    "batch_size": 1,
    "learning_rate": 1e-4,
    "timestep_sampler": {"name": "uniform"},
    "ema": {"name": "off"},
}

T = TypeVar("T", bound=BaseModel)


class Metadata(BaseModel):
    """The content of ``METADATA``: the metadata of a model file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str
    config: dict[str, JsonValue]
    facts: dict[str, JsonValue]


def export_model(source: Path, out: Path, form: str) -> Loaded:
    """Write the model file ``source`` as the folder ``out``, with a README.md, in one of ``FORMATS``.

    Raises UserError, and writes nothing, if it is not a model file, ``out`` exists, or the format has no place for the
    model.
    """
    out = _free(out)
    source = model_file(source)
    model = load_model(source, CPU)
    with atomic_path(out) as folder:
        folder.mkdir()
        if form == "diffusers":
            _write_diffusers(model, folder)
        else:
            shutil.copyfile(source, folder / MODEL)
            text = yaml.safe_dump(model.written, sort_keys=False)
            (folder / "config.yaml").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(card.write(source, model, out.name, form), encoding="utf-8")
    return model


def import_model(source: Path, out: Path) -> Loaded:
    """Write the model file ``out`` from a folder that ``export_model`` or diffusers wrote, or from a file.

    Raises UserError, and writes nothing, for what has no counterpart here, is missing or is damaged.
    """
    out = _free(out)
    if model_file(source).is_file():
        load_model(model_file(source), CPU)
        with atomic_path(out) as temporary:
            shutil.copyfile(model_file(source), temporary)
    elif source.is_dir():
        save_model(out, *_read_diffusers(source))
    else:
        raise UserError(f"{source}: no such file or folder; allowed: a model file, or a folder with one or a {UNET}")
    return load_model(out, CPU)


def model_file(path: Path) -> Path:
    """``path``, or the model file in it if it is a folder."""
    return path / MODEL if path.is_dir() else path


def _write_diffusers(model: Loaded, folder: Path) -> None:
    """Raises UserError for an option that diffusers does not have."""
    network, scheduler = _described(model.config)
    if not model.config.model.classes:  # none of its pipelines gives this network a class
        write_json(folder / "model_index.json", {"_class_name": "DDPMPipeline", "_diffusers_version": DIFFUSERS,
                   "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]})  # fmt: skip
    version = {"_diffusers_version": DIFFUSERS}
    chain = scheduler.model_dump(mode="json", by_alias=True) | diffusers_chain.SAMPLING
    write_json(folder / UNET, network.model_dump(mode="json", by_alias=True) | version)
    write_json(folder / SCHEDULER, chain | version)
    tensors = diffusers_unet.weights_out(model.network.state_dict(), _shape(model.config), model.config.diffusion.T)
    with atomic_path(folder / UNET_WEIGHTS) as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    write_json(folder / METADATA, {"format": FORMAT, "config": model.written, "facts": model.facts})


def _read_diffusers(folder: Path) -> tuple[dict[str, Tensor], TrainingConfig, dict[str, Any]]:
    """Weights, config and facts in a pipeline's folder. Raises UserError."""
    network = _read(folder / UNET, UNet2D)
    scheduler = _read(folder / SCHEDULER, Scheduler)
    weights = _weights(folder / UNET_WEIGHTS)
    described = _by_metadata if (folder / METADATA).exists() else _by_diffusers
    config, facts = described(folder, network, scheduler)
    with _about(folder / "unet"):
        outline = build.outline(config).state_dict()
        return diffusers_unet.weights_in(weights, network, _shape(config), outline), config, facts


def _by_metadata(folder: Path, network: UNet2D, scheduler: Scheduler) -> tuple[TrainingConfig, dict[str, Any]]:
    """Config and facts from METADATA, if the rest of the folder agrees with it."""
    path = folder / METADATA
    ours = _read(path, Metadata)
    if ours.format != FORMAT:
        raise UserError(f"{path}: format {ours.format!r}, this version reads {FORMAT!r}; remove it to do without")
    config = parse(ours.config, str(path), TrainingConfig)
    for name, expected, found in zip((UNET, SCHEDULER), _described(config), (network, scheduler), strict=True):
        if keys := diffusers_unet.differing(expected, found, {"class_name"}):
            raise UserError(f"{path}: {folder / name} has another {keys[0]}; remove {METADATA} to do without")
    return config, dict(ours.facts)


def _by_diffusers(folder: Path, network: UNet2D, scheduler: Scheduler) -> tuple[TrainingConfig, dict[str, Any]]:
    """Config and facts from diffusers' files, with stand-ins for what these do not contain."""
    with _about(folder / UNET):
        shape = diffusers_unet.shape_of(network)
    with _about(folder / SCHEDULER):
        diffusion = diffusers_chain.section(scheduler, network.out_channels / network.in_channels)
    values = {
        "seed": 0,
        "data": {"image_size": network.sample_size, "channels": network.in_channels},
        "diffusion": diffusion,
        "model": json.loads(shape.model_dump_json()),
        "train": STAND_IN,
    }
    origin = {"from": "diffusers", "sha256": sha256(folder / UNET_WEIGHTS), "unknown": UNKNOWN}
    return parse(values, str(folder), TrainingConfig), {"imported": origin}


def _described(config: ModelConfig) -> tuple[UNet2D, Scheduler]:
    diffusion, data = config.diffusion, config.data
    outputs = data.channels * diffusion.variance.outputs
    network = diffusers_unet.describe(_shape(config), data.shape, outputs, diffusion.T, config.model.classes)
    return network, diffusers_chain.describe(diffusion)


def _shape(config: ModelConfig) -> UNet:
    shape = config.model.architecture
    if not isinstance(shape, UNet):
        raise UserError(f"model.name: {shape.name} has no counterpart in UNet2DModel; allowed: unet")
    return shape


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Put this path at the start of a UserError raised inside."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _read(path: Path, kind: type[T]) -> T:
    """A JSON file from outside. Raises UserError that names the key."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"{path}: larger than {MAX_JSON_BYTES:,} bytes; a config is a page of text")
        found = TypeAdapter(dict[str, JsonValue]).validate_json(path.read_bytes())
        # keys with an underscore are diffusers' notes to itself, EMA_KEYS those of a saved EMA
        notes = EMA_KEYS | {key for key in found if key.startswith("_")} - {"_class_name"}
        return kind.model_validate_json(json.dumps({key: value for key, value in found.items() if key not in notes}))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a folder of DDPMPipeline.save_pretrained has this file") from error
    except ValidationError as error:
        raise UserError(f"{path}: {variant.explain(error, kind, '')}") from error


def _weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a readable file of safetensors ({error}); save weights in several files, or in a pickle that "
            'you trust, as one by UNet2DModel.from_pretrained(FOLDER, subfolder="unet", use_safetensors=False)'
            ".save_pretrained(FOLDER/unet)"
        ) from error


def _free(out: Path) -> Path:
    """``out``, resolved. Raises UserError if it exists: writing would replace it."""
    out = out.resolve()
    if out.exists():
        raise UserError(f"{out}: is there already: remove it, or choose another name by --out")
    return out
