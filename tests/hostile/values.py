"""Values of params.yaml that make no sense, by themselves or together."""

import copy
import functools
import operator
from functools import partial
from pathlib import Path

from ddpm.model import build
from ddpm.params import config, file
from tests.small import PARAMS

SILENT = {"name": "linear", "linear": {"zero_terminal_snr": True}}
OPTIMIZER, LOSS, UNET = "train.optimizer", "diffusion.loss", "model.unet"
VALUES: list[tuple[str, dict, str]] = [
    ("a variant named as a path", {"data.dataset.name": "../../etc/passwd"}, "unknown '../../etc/passwd'"),
    ("10^18 steps of noise", {"diffusion.T": 10**18}, "diffusion.T: 1000000000000000000 is not allowed"),
    ("a network wider than memory", {f"{UNET}.base_channels": 200_000}, "its weights take"),
    ("a billion blocks", {f"{UNET}.blocks": 10**9}, "model.unet.blocks: 1000000000 is not allowed"),
    ("an odd image for a network that halves it", {"data.image_size": 15}, "must be a multiple of 2"),
    ("a million channels", {"data.channels": 10**6}, "data.channels: 1000000 is not allowed"),
    ("one step of noise, and that without signal", {"diffusion.T": 1, "sample.steps": 1, "diffusion.schedule": SILENT},
     "needs a chain of at least 2 steps"),
    ("a derivative along one step of noise", {"diffusion.T": 1, "sample.steps": 1, LOSS: {"name": "mean_flow"}},
     "T: 1 makes a single step"),
    ("a class of a model that knows none", {"sample.classes": [3]}, "sample.classes: the model has none"),
    ("a class that does not exist", {"model.classes": 3, "sample.classes": [3]}, "no class 3; allowed: 0..2"),
    ("guidance of a model without classes", {"sample.guidance": {"weight": 2.0}}, "2 needs a model with classes"),
    ("guidance away from what is never trained",
     {"sample.guidance": {"weight": 2.0}, "model.classes": 3, "train.label_dropout": 0.0},
     "which train.label_dropout: 0 does not train"),
    ("a snapshot beyond the end", {"train.snapshots": [16, 960]}, "snapshots: 960 is beyond the end at 96 images"),
    ("a snapshot in the middle of a decay", {"train.snapshots": [16], "train.lr_decay": "cosine"}, "snapshots need"),
    ("two averages of the weights", {OPTIMIZER: {"name": "schedule_free"}}, "schedule_free averages already"),
    ("t by losses below 0", {"train.timestep_sampler": {"name": "loss_second_moment"}, LOSS: {"name": "mean_flow"}},
     "losses of mean_flow may be negative; allowed: logit_normal"),
    ("averages from long to short", {"train.posthoc": {"lengths": [0.1, 0.05]}}, "at least 1.25 times the first"),
    ("an average that was never kept", {"sample.ema_length": 0.05}, "needs the snapshots of train.posthoc"),
    ("an average out of the snapshots' range", {"train.posthoc": {}, "sample.ema_length": 0.25},
     "sample.ema_length: an average of length 0.25 cannot"),
    ("a metric named as a path", {"evaluate.metrics": ["../fid"]}, "unknown '../fid'"),
]  # fmt: skip


def write(changes: dict) -> None:
    values = copy.deepcopy(PARAMS)
    for key, value in changes.items():
        *sections, last = key.split(".")
        functools.reduce(operator.getitem, sections, values)[last] = value
    Path("params.yaml").write_text(file.encode(values))


def check() -> None:
    """As ``ddpm check`` does."""
    build.network(config.load().training())


CASES = {name: (partial(write, changes), check, line) for name, changes, line in VALUES}
