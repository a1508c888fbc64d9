"""Models to share: ``ddpm export``.

A folder of format ``ddpm`` holds the model file as it is, with a card: every command takes it for ``--model``. A folder
of format ``diffusers`` loads with ``DDPMPipeline.from_pretrained`` and ``DDIMPipeline.from_pretrained``, or with
``UNet2DModel.from_pretrained`` if the model has classes. diffusers is not needed to write it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, write_json
from ddpm.model.model_file import Loaded, load_model
from ddpm.sharing import card, diffusers_chain, diffusers_unet
from ddpm.variants.networks.unet import UNet

MODEL = "model.safetensors"
DIFFUSERS = "0.32.0"  # the oldest version that the written folders are meant for
UNET, UNET_WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
FORMATS = ("ddpm", "diffusers")


def export_model(source: Path, out: Path, form: str) -> Loaded:
    """Write the model file ``source`` as the folder ``out``, with a README.md, in one of ``FORMATS``.

    Raises UserError, and writes nothing, if it is not a model file, ``out`` exists, or the format has no place for the
    model.
    """
    out = out.resolve()
    if out.exists():
        raise UserError(f"{out}: is there already: remove it, or choose another name by --out")
    model = load_model(source, torch.device("cpu"))
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


def _write_diffusers(model: Loaded, folder: Path) -> None:
    """Raises UserError for an option that diffusers does not have."""
    config, shape = model.config, model.config.model.architecture
    if not isinstance(shape, UNet):
        raise UserError(f"model.name: {shape.name} has no counterpart in UNet2DModel; allowed: unet")
    version = {"_diffusers_version": DIFFUSERS}
    outputs = config.data.channels * config.diffusion.variance.outputs
    network = diffusers_unet.describe(shape, config.data.shape, outputs, config.diffusion.T, config.model.classes)
    write_json(folder / UNET, network | version)
    write_json(folder / SCHEDULER, diffusers_chain.describe(config.diffusion) | version)
    if not config.model.classes:  # none of its pipelines gives this network a class
        write_json(folder / "model_index.json", {"_class_name": "DDPMPipeline", **version,
                   "scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]})  # fmt: skip
    tensors = diffusers_unet.weights(model.network.state_dict(), shape, config.diffusion.T)
    with atomic_path(folder / UNET_WEIGHTS) as temporary:
        save_file(tensors, temporary, {"format": "pt"})
