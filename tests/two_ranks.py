"""One rank of tests/training/test_distributed.py: train the small model and write the results."""

import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import psutil
import torch

from ddpm.base.errors import exit_code
from ddpm.compute import distributed
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import TrainClasses
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.history import LossRow
from ddpm.training.trainer import train
from tests.small import Memory, pictures, small


class Cut(Memory):
    """A log that cuts this process off from all others after some steps, as a firewall might."""

    def log(self, row: LossRow) -> None:
        super().log(row)
        if row.step == 5:
            for connection in psutil.Process().net_connections("tcp"):
                if connection.status == psutil.CONN_ESTABLISHED:
                    socket.socket(fileno=os.dup(connection.fd)).shutdown(socket.SHUT_RDWR)


def trained(
    folder: Path, options: dict, ranks: Ranks = ALONE, log: Memory | None = None, state: str = "checkpoints"
) -> None:
    """Train the small model with ``options``, and write its curve too; ``state``: the folder for its checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints("two-ranks")
    checkpoints.folder = folder / state
    device = torch.device("cpu")
    config = small(**options).training()
    images, kinds = pictures(), config.model.classes
    classes = TrainClasses(("kind",) * kinds, (1,) * kinds, np.arange(len(images)) % kinds) if kinds else None
    history = train(config, images, device, folder, checkpoints, log or Memory(), (), ranks, classes)
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps([[row.loss, row.gradient_norm] for row in history.rows]))


def main() -> None:
    with distributed.join_group(torch.device("cpu")):
        here = distributed.current()
        state = f"checkpoints-{here.rank}" if "TWO_RANKS_APART" in os.environ else "checkpoints"
        for folder, options in json.loads(os.environ["TWO_RANKS"]).items():
            log = Cut() if here.main and "TWO_RANKS_CUT" in os.environ else Memory()
            trained(Path(folder), options, here, log, state)


if __name__ == "__main__":
    sys.exit(exit_code(main))
