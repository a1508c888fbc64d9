"""What is asked of a model that changes images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddpm.base.paths import MODEL_FILE


@dataclass(frozen=True)
class Request:
    """The model, the images, and how to draw.

    Args:
        model: model file, or its folder
        images: picture files, cropped to the model's shape
        rows: instead of images, rows of the test split (the first 8)
        seed: of the noise
        steps: steps of the chain to visit
        device: auto, cpu, cuda or cuda:N
    """

    model: Path = MODEL_FILE
    images: tuple[Path, ...] = ()
    rows: tuple[int, ...] = ()
    seed: int = 0
    steps: int = 50
    device: str = "auto"
