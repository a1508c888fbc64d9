"""train: data/processed -> data/model, metrics/train.json, metrics/loss.csv."""

from __future__ import annotations

import torch

from ddpm.base.files import write_json
from ddpm.base.paths import LOSS, METRICS, MODEL, PROCESSED
from ddpm.compute import devices
from ddpm.compute.distributed import Ranks
from ddpm.data.processed import open_split
from ddpm.training import memory
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.settings import TrainingConfig
from ddpm.training.trainer import Log, Preview, train


def main(
    settings: TrainingConfig,
    device: torch.device,
    ranks: Ranks,
    checkpoints: Checkpoints,
    log: Log,
    preview: Preview,
) -> None:
    images, _ = open_split(PROCESSED, "train")
    needed = memory.estimate(settings, device)
    history = train(settings, images, device, MODEL, checkpoints, log, ranks, preview)
    if ranks.main:
        history.write(LOSS)
        facts = history.facts() | needed.facts(history.images_per_step) | {"device": devices.describe(device)}
        write_json(METRICS / "train.json", facts)
