"""train: data/processed -> data/model, metrics/train.json, metrics/loss.csv."""

from __future__ import annotations

from ddpm import devices, distributed, memory, tracking
from ddpm.checkpoint import Checkpoints, recorded
from ddpm.config import Config
from ddpm.files import write_json
from ddpm.inputs import Start
from ddpm.paths import LOSS, METRICS, MODEL, PROCESSED
from ddpm.processed import open_split
from ddpm.training import train
from stages import ranks


def main(config: Config, start: Start) -> None:
    device = devices.resolve(config.device)
    images, _ = open_split(PROCESSED, "train")
    here = distributed.current()
    needed = memory.estimate(config.training(), device)
    checkpoints = Checkpoints(start.fingerprint(), recorded(start.params))
    with tracking.live(start.params, here.main) as log:
        history = train(config.training(), images, device, MODEL, checkpoints, log, here)
        if here.main:
            history.write(LOSS)
            write_json(
                METRICS / "train.json",
                history.facts() | needed.facts(history.images_per_step) | {"device": devices.describe(device)},
            )
            start.check()


if __name__ == "__main__":
    ranks.run("train", main)
