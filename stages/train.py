"""train: data/processed -> data/model, metrics/train.json, metrics/loss.csv."""

from __future__ import annotations

from ddpm.base.files import write_json
from ddpm.base.paths import LOSS, METRICS, MODEL, PROCESSED
from ddpm.compute import devices, distributed
from ddpm.data.processed import open_split
from ddpm.params.config import Config
from ddpm.params.inputs import Start
from ddpm.tracking import tracker
from ddpm.training import memory
from ddpm.training.checkpoints import Checkpoints, recorded
from ddpm.training.trainer import train
from stages import ranks


def main(config: Config, start: Start) -> None:
    device = devices.resolve(config.device)
    images, _ = open_split(PROCESSED, "train")
    here = distributed.current()
    needed = memory.estimate(config.training(), device)
    checkpoints = Checkpoints(start.fingerprint(), recorded(start.params))
    with tracker.live(start.params, here.main) as log:
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
