"""Values of params.yaml that make no sense, by themselves or together."""

import copy
import functools
import operator
from functools import partial
from pathlib import Path

from ddpm.base import variant
from ddpm.model import build
from ddpm.params import config, file
from tests.small import PARAMS

SILENT = {"name": "linear", "linear": {"zero_terminal_snr": True}}
OPTIMIZER, LOSS, UNET, SCHEDULE = "train.optimizer", "diffusion.loss", "model.unet", "diffusion.schedule"
SCHEDULES = ", ".join(variant.names("schedules"))
VALUES: list[tuple[str, dict, str]] = [
    ("a variant named as a path", {"data.dataset.name": "../../etc/passwd"}, "unknown '../../etc/passwd'"),
    ("10^18 steps of noise", {"diffusion.T": 10**18}, "diffusion.T: 1000000000000000000 is not allowed"),
    ("a network wider than memory", {f"{UNET}.base_channels": 200_000}, "its weights take"),
    ("a billion blocks", {f"{UNET}.blocks": 10**9}, "model.unet.blocks: 1000000000 is not allowed"),
    ("an odd image for a network that halves it", {"data.image_size": 15}, "must be a multiple of 2"),
    ("a million channels", {"data.channels": 10**6}, "data.channels: 1000000 is not allowed"),
    ("one step of noise, and that without signal", {"diffusion.T": 1, "sample.steps": 1, SCHEDULE: SILENT},
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
    ("an unknown key", {"train.lr": 0.1}, ": train.lr: unknown key (did you mean 'learning_rate'?); allowed: steps, "),
    ("a number as text", {"train.batch_size": "64"}, ": train.batch_size: '64' is not allowed"),
    ("an empty batch", {"train.batch_size": 0}, ": train.batch_size: 0 is not allowed"),
    ("a word that is none of some", {"train.precision": "half"}, ": train.precision: 'half' ... be 'auto', 'float32'"),
    ("one of two numbers", {OPTIMIZER: {"name": "adamw", "adamw": {"betas": [0.9]}}}, "adamw.betas.1: missing"),
    ("a length in two units", {"train.epochs": 3}, ": train: set exactly one of steps and epochs"),
    ("a width that is a truth value", {"data.image_size": [8, True]}, "(8, True) is not allowed; allowed: "),
    ("more steps than the chain has", {"diffusion.T": 4}, ": sample.steps: 5 must be at most diffusion.T = 4"),
    ("a block of no variant", {"model.unot": {}}, ": model.unot: unknown 'unot' (did you mean 'unet'?)"),
    ("a metric twice", {"evaluate.metrics": ["fid", "fid"]}, ": evaluate: metrics: [fid, fid] "),
    ("a name in place of a block", {SCHEDULE: "linear"}, f": diffusion.schedule: 'linear' ... {SCHEDULES}"),
    ("an unknown variant", {SCHEDULE: {"name": "cosin"}},
     f": diffusion.schedule.name: unknown 'cosin' (did you mean 'cosine'?); allowed: {SCHEDULES}"),
    ("a misspelled hyperparameter", {SCHEDULE: {"name": "linear", "linear": {"beta_strat": 0.1}}},
     "linear.beta_strat: unknown key (did you mean 'beta_start'?); allowed: ... beta_end"),
    ("a hyperparameter out of bounds", {SCHEDULE: {"name": "linear", "linear": {"beta_start": 0}}},
     ": diffusion.schedule.linear.beta_start: 0 is not allowed: Input should be greater than 0"),
    ("a mistake in a block that waits", {SCHEDULE: {"name": "linear", "cosine": {"s": -1}}}, "cosine.s: -1 is not"),
    ("no signal to divide by", {SCHEDULE: SILENT, "diffusion.parameterization": {"name": "epsilon"}},
     "parameterization: epsilon ... linear.zero_terminal_snr: true ... allowed: ... edm, ... v, "),
    ("no weight without signal", {SCHEDULE: SILENT, LOSS: {"name": "min_snr"}},
     "loss: min_snr ... linear.zero_terminal_snr: true ... allowed: ... mean_flow, ... simple, "),
    ("a space without signal", {SCHEDULE: SILENT, LOSS: {"name": "simple", "simple": {"space": "epsilon"}}},
     "loss.simple.space: epsilon ... linear.zero_terminal_snr: true ... allowed: null, flow, v, x0"),
    ("a variance that nothing teaches", {"diffusion.variance": {"name": "learned_range"}},
     "variance: learned_range, ... allowed: ... fixed_small, ... hybrid, vlb"),
    ("less signal than float32 has", {SCHEDULE: {"name": "linear", "linear": {"beta_start": 0.02}}, "diffusion.T": 20},
     "schedule: linear with T: 20 ... float32"),
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
