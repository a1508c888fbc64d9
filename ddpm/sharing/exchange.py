"""Models to give away and to take in: ``ddpm export`` and ``ddpm import``.

A folder of format ``ddpm`` holds the model file as it is, with a card. One of format ``diffusers`` is what
``DDPMPipeline.from_pretrained`` and ``DDIMPipeline.from_pretrained`` load; ``RECORD`` beside it keeps what that
library has no place for, so that the model comes back bit for bit. Neither needs diffusers to be written or read.
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
from ddpm.base.settings import parse
from ddpm.model import architecture
from ddpm.model.file import FORMAT, Loaded, load_model, save_model
from ddpm.model.settings import ModelConfig
from ddpm.sharing import card, diffusers_chain, diffusers_unet
from ddpm.sharing.diffusers_chain import Scheduler
from ddpm.sharing.diffusers_unet import UNet2D
from ddpm.training.settings import TrainingConfig
from ddpm.variants.networks.unet import UNet

MODEL = "model.safetensors"
RECORD = "ddpm.json"
DIFFUSERS = "0.32.0"  # the oldest version that the written folders are meant for
UNET, UNET_WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
MAX_JSON_BYTES = 2**22
EMA_KEYS = {"decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"}
CPU = torch.device("cpu")
FORMATS = ("ddpm", "diffusers")

# What an imported model's training is said to have been, for want of a record; nothing that samples reads it.
UNKNOWN = ["seed", "diffusion.loss", "train"]
STAND_IN: dict[str, Any] = {
    "steps": 1,
    "batch_size": 1,
    "learning_rate": 1e-4,
    "timestep_sampler": {"name": "uniform"},
    "ema": {"name": "off"},
}

T = TypeVar("T", bound=BaseModel)


class Record(BaseModel):
    """``RECORD``: a model file's metadata."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: str
    config: dict[str, JsonValue]
    facts: dict[str, JsonValue]


def export_model(source: Path, out: Path, form: str) -> Loaded:
    """Write the model file ``source`` as the folder ``out``, with a README.md, in one of ``FORMATS``.

    Raises UserError when it is no model file, ``out`` holds something already, or the format has no place for the
    model; then nothing is written.
    """
    out = _free(out)
    source = model_file(source)
    model = load_model(source, CPU)
    with atomic_path(out) as folder:
        folder.mkdir()
        if form == "diffusers":
            write_diffusers(model, folder)
        else:
            shutil.copyfile(source, folder / MODEL)
            text = yaml.safe_dump(model.written, sort_keys=False)
            (folder / "config.yaml").write_text(text, encoding="utf-8")
        (folder / "README.md").write_text(card.write(source, model, out.name, form), encoding="utf-8")
    return model


def import_model(source: Path, out: Path) -> Loaded:
    """Write the model file ``out`` of a folder that ``export_model`` or diffusers wrote, or of a file.

    Raises UserError in one line that names what has no counterpart here, is missing or damaged; then nothing is
    written.
    """
    out = _free(out)
    if model_file(source).is_file():
        load_model(model_file(source), CPU)
        with atomic_path(out) as temporary:
            shutil.copyfile(model_file(source), temporary)
    elif source.is_dir():
        tensors, config, facts = read_diffusers(source)
        save_model(out, tensors, config, facts)
    else:
        raise UserError(f"{source}: no such file or folder; allowed: a model file, or a folder with one or a {UNET}")
    return load_model(out, CPU)


def model_file(path: Path) -> Path:
    """The model file, where ``path`` may be its folder."""
    return path / MODEL if path.is_dir() else path


def write_diffusers(model: Loaded, folder: Path) -> None:
    """Raises UserError that names the option that diffusers has not."""
    network, scheduler = _described(model.config)
    write_json(folder / "model_index.json", {"_class_name": "DDPMPipeline", "_diffusers_version": DIFFUSERS,
               "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]})  # fmt: skip
    version = {"_diffusers_version": DIFFUSERS}
    write_json(folder / UNET, network.model_dump(mode="json", by_alias=True) | version)
    write_json(
        folder / SCHEDULER, scheduler.model_dump(mode="json", by_alias=True) | diffusers_chain.SAMPLING | version
    )
    tensors = diffusers_unet.weights_out(model.network.state_dict(), _shape(model.config), model.config.diffusion.T)
    with atomic_path(folder / UNET_WEIGHTS) as temporary:
        save_file(tensors, temporary, {"format": "pt"})
    write_json(folder / RECORD, {"format": FORMAT, "config": model.written, "facts": model.facts})


def read_diffusers(folder: Path) -> tuple[dict[str, Tensor], TrainingConfig, dict[str, Any]]:
    """Weights, config and facts of a pipeline's folder. Raises UserError."""
    network = _read(folder / UNET, UNet2D)
    scheduler = _read(folder / SCHEDULER, Scheduler)
    weights = _weights(folder)
    read = _recorded if (folder / RECORD).exists() else _told
    config, facts = read(folder, network, scheduler)
    with _about(folder / "unet"):
        outline = architecture.outline(config).state_dict()
        return diffusers_unet.weights_in(weights, network, _shape(config), outline), config, facts


def _recorded(folder: Path, network: UNet2D, scheduler: Scheduler) -> tuple[TrainingConfig, dict[str, Any]]:
    """As the record says, where the rest of the folder agrees."""
    path = folder / RECORD
    record = _read(path, Record)
    if record.format != FORMAT:
        raise UserError(f"{path}: format {record.format!r}, this version reads {FORMAT!r}: remove it to do without")
    config = parse(record.config, str(path), TrainingConfig)
    for name, ours, found in zip((UNET, SCHEDULER), _described(config), (network, scheduler), strict=True):
        if keys := diffusers_unet.differing(ours, found, {"class_name"}):
            raise UserError(
                f"{path}: not the record of {folder / name}, whose {keys[0]} is another: remove it to do without"
            )
    return config, dict(record.facts)


def _told(folder: Path, network: UNet2D, scheduler: Scheduler) -> tuple[TrainingConfig, dict[str, Any]]:
    """As the folder says, and stand-ins for what it does not."""
    with _about(folder / UNET):
        shape = diffusers_unet.shape_of(network)
        outputs, rest = divmod(network.out_channels, network.in_channels)
        if rest or outputs not in diffusers_chain.LOSSES:
            raise UserError(
                f"out_channels: {network.out_channels} for {network.in_channels} in_channels is not allowed: as many, "
                "or twice as many where the variance is learned"
            )
    with _about(folder / SCHEDULER):
        diffusion = diffusers_chain.section(scheduler, outputs)
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
    network = diffusers_unet.describe(_shape(config), data.image_size, data.channels, outputs, diffusion.T)
    return network, diffusers_chain.describe(diffusion)


def _shape(config: ModelConfig) -> UNet:
    shape = variant.build("networks", config.model.model_dump(), "model")
    if not isinstance(shape, UNet):
        raise UserError(f"model.name: {shape.name} has no counterpart in UNet2DModel; allowed: unet")
    return shape


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Begin the line of a UserError with the file that it is about."""
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
        # keys with an underscore are notes of diffusers to itself, the others those of a saved EMA
        told = {key: value for key, value in found.items() if key not in EMA_KEYS and not key.startswith("_")}
        told |= {key: found[key] for key in ("_class_name",) if key in found}
        return kind.model_validate_json(json.dumps(told))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; a folder of DDPMPipeline.save_pretrained has this file") from error
    except ValidationError as error:
        raise UserError(f"{path}: {variant.explain(error, kind, '')}") from error


def _weights(folder: Path) -> dict[str, Tensor]:
    path = folder / UNET_WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file; weights of several files, or a pickle that you trust, have to be saved as one by "
            'UNet2DModel.from_pretrained(FOLDER, subfolder="unet", use_safetensors=False).save_pretrained(FOLDER/unet)'
        ) from error
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable file of safetensors ({error})") from error


def _free(out: Path) -> Path:
    """``out``, resolved. Raises UserError when something stands there that writing would replace."""
    out = out.resolve()
    if out.exists():
        raise UserError(f"{out}: is there already: remove it, or choose another name by --out")
    return out
