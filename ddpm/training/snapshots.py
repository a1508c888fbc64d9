"""What a training had learned at some points on its way: a model file for each of ``train.snapshots``."""

from pathlib import Path
from typing import Any

from torch import Tensor

from ddpm.model.model_file import save_model
from ddpm.training.train_params import TrainingConfig


class Snapshots:
    """Model files named by the images seen so far, such as 0016000.safetensors. None is written of the end: that is the
    model itself.

    They are kept in ``folder``, next to the checkpoints, until the training ends: DVC removes a stage's outs before it
    runs the stage again. A training that resumes before a snapshot makes it again, with the same bytes.
    """

    def __init__(self, config: TrainingConfig, steps: int, folder: Path):
        """steps: of the whole training."""
        self.config = config
        self.folder = folder
        earlier = config.train.earlier(steps)
        self.files = {step: folder / f"{images:07d}.safetensors" for step, images in earlier.items()}

    def keep(self, step: int, averages: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write the file of the model after ``step``, if there is one of that step."""
        if step in self.files:
            save_model(self.files[step], averages, self.config, {"steps": step, **facts})
