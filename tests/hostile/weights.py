"""Model files that are something else."""

import io
import json
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ddpm.model import build
from ddpm.model.model_file import FORMAT, METADATA, load_model
from tests.hostile.arrays import Attack
from tests.hostile.case import Case
from tests.small import small

PATH = Path("model.safetensors")


def raw(header: bytes, length: int | None = None, content: bytes = b"") -> None:
    PATH.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + content)


def tensor(begin: int, end: int, shape: list[int], kind: str = "F32") -> bytes:
    return json.dumps({"x": {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}}).encode()


def pickled() -> None:
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, buffer)
    PATH.write_bytes(buffer.getvalue())


def model(change: Callable[[dict[str, Tensor]], object] = lambda tensors: None, **sections: dict) -> None:
    """Write a model file of the small config, with ``sections`` changed in the stored config."""
    tensors = dict(build.network(small().training()).state_dict())
    change(tensors)
    config = small().training().to_dict()
    config |= {key: {**config[key], **values} for key, values in sections.items()}
    save_file(tensors, PATH, {METADATA: json.dumps({"format": FORMAT, "config": config, "facts": {}})})


def metadata(text: str) -> None:
    save_file({"x": torch.zeros(1)}, PATH, {METADATA: text})


def configured(config, **about: str) -> None:
    metadata(json.dumps({"format": FORMAT, "config": config} | about))


def _first(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], object]:
    def changed(tensors: dict[str, Tensor]) -> None:
        name = next(iter(tensors))
        tensors[name] = change(tensors[name])

    return changed


def _unet(**shape) -> dict:
    return {"name": "unet", "unet": {**small().training().to_dict()["model"]["unet"], **shape}}


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
UNREADABLE = "not a readable model file of safetensors"
FILES: list[tuple[str, Callable[[], object], str]] = [
    ("a pickle that runs a command", lambda: PATH.write_bytes(pickle.dumps(Attack())), UNREADABLE),
    ("a file from torch.save", pickled, UNREADABLE),
    ("a folder", PATH.mkdir, UNREADABLE),
    ("a header of 2^63 bytes", partial(raw, b"{}", 2**63), UNREADABLE),
    ("a tensor larger than its bytes", partial(raw, tensor(0, 4, [1000]), content=bytes(4)), UNREADABLE),
    ("100,000 empty tensors", lambda: raw(json.dumps(dict.fromkeys(map(str, range(10**5)), EMPTY)).encode()),
     "a header of"),
    ("weights without a config", partial(metadata, "{}"), "model file format 'none'"),
    ("a config 100,000 deep", partial(metadata, "[" * 100_000), UNREADABLE),
    ("a file of another format", partial(configured, {}, format="ddpm-0"), "file format 'ddpm-0', this version reads"),
    ("all of params.yaml for a config", partial(configured, small().to_dict()), "device: unknown key"),
    ("a config of a network wider than memory", partial(model, model=_unet(base_channels=2**20)), "do not fit its own"),
    ("a config of a billion blocks", partial(model, model=_unet(blocks=10**9)), "s: model.unet.blocks: 1000"),
    ("one weight too few", partial(model, lambda tensors: tensors.pop("head.weight")), "do not fit its own config"),
    ("one weight too many", partial(model, lambda tensors: tensors.update(evil=torch.ones(1))), "do not fit its own"),
    ("a NaN among the weights", partial(model, _first(lambda weight: weight * torch.nan)), "are not finite"),
]  # fmt: skip

CASES = [Case("model file", name, given, partial(load_model, PATH, torch.device("cpu")), line)
         for name, given, line in FILES]  # fmt: skip
