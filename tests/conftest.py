"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

# before torch is imported: two test workers with two threads each spin against each other, seven times slower
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from ddpm import config
from ddpm.preprocessing import preprocess

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The processed folder of the digits preset: 16x16x1, the split that the shipped classifier knows. Read only."""
    folder = tmp_path_factory.mktemp("digits")
    params = config.load(ROOT / "ddpm/presets/digits.yaml")
    params.data.dataset.download(params.data.source, folder / "raw")
    preprocess(params.data, folder / "raw", folder / "processed", workers=1)
    return folder / "processed"


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the small model of tests/small.py, trained for a second. Read only."""
    import torch

    from ddpm.checkpoint import Checkpoints
    from ddpm.training import train
    from tests.small import Memory, pictures, small

    folder = tmp_path_factory.mktemp("model")
    checkpoints = Checkpoints("model")
    checkpoints.folder = folder / "checkpoints"
    options = small(train={"steps": 60, "learning_rate": 5e-3}).training()
    train(options, pictures(), torch.device("cpu"), folder, checkpoints, Memory())
    return folder / "model.safetensors"
