"""What a rank of tests/test_distributed.py does: train the small model and write what came out. Run by torchrun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from ddpm import distributed
from ddpm.checkpoint import Checkpoints
from ddpm.distributed import ALONE, Ranks
from ddpm.errors import exit_code
from ddpm.training import train
from tests.small import Memory, pictures, small


def trained(folder: Path, options: dict[str, Any], ranks: Ranks = ALONE) -> None:
    """Train the small model with ``options``, and write its curve too."""
    checkpoints = Checkpoints("two-ranks")
    checkpoints.folder = folder / "checkpoints"
    device = torch.device("cpu")
    history = train(small(**options).training(), pictures(), device, folder, checkpoints, Memory(), ranks)
    (folder / f"rank-{ranks.rank}.json").write_text(json.dumps([[row.loss, row.gradient_norm] for row in history.rows]))


def main() -> None:
    with distributed.joined(torch.device("cpu")):
        trained(Path(os.environ["TWO_RANKS_FOLDER"]), json.loads(os.environ["TWO_RANKS_TRAIN"]), distributed.current())


if __name__ == "__main__":
    sys.exit(exit_code(main))
