"""train: data/processed -> data/model, metrics/train.json, metrics/loss.csv."""

from collections.abc import Sequence

import torch

from ddpm.base.files import write_json, write_rows
from ddpm.base.paths import LOSS, METRICS, MODEL, PROCESSED
from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.data.processed import open_split, train_classes
from ddpm.model import build
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.flops import step_flops
from ddpm.training.history import LossRow
from ddpm.training.train_params import TrainingConfig
from ddpm.training.trainer import Log, Watch, train


def main(
    settings: TrainingConfig,
    device: torch.device,
    ranks: Ranks,
    checkpoints: Checkpoints,
    log: Log,
    watches: Sequence[Watch],
) -> None:
    images, _ = open_split(PROCESSED, "train")
    classes = train_classes(PROCESSED, settings.model.classes)
    history = train(settings, images, device, MODEL, checkpoints, log, watches, ranks, classes)
    memory = ranks.largest(devices.peak_memory(device))
    if ranks.main:
        write_rows(LOSS, [row._asdict() for row in history.rows], LossRow._fields)
        facts = history.facts()
        about = {
            "parameters": build.parameters(settings),
            "flops": step_flops(settings) * facts["images_seen"] // settings.train.batch_size,
            "memory_mib": round(memory / 2**20, 1),
            "device": f"{ranks.size} x {devices.processor(device)}",
        }
        write_json(METRICS / "train.json", facts | about)
