"""train: data/processed -> data/model, metrics/train.json, metrics/loss.csv."""

from __future__ import annotations

from ddpm import devices, distributed, memory, tracking
from ddpm.checkpoint import Checkpoints
from ddpm.config import Config
from ddpm.files import write_json
from ddpm.processed import open_split
from ddpm.training import train
from stages import METRICS, MODEL, PROCESSED, run


def main(config: Config, fingerprint: str) -> None:
    device = devices.resolve(config.device)
    images, _ = open_split(PROCESSED, "train")
    ranks = distributed.current()
    needed = memory.estimate(config.training(), device)
    with tracking.live(ranks.main) as log:
        history = train(config.training(), images, device, MODEL, Checkpoints(fingerprint), log, ranks)
        if ranks.main:
            history.write(METRICS / "loss.csv")
            write_json(METRICS / "train.json", history.facts() | needed.facts(history.images_per_step) | {"device": devices.describe(device)})


if __name__ == "__main__":
    run("train", main, ranks=True)
