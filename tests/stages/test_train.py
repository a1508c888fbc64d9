"""The train stage on a GPU that does not exist: what it does before it touches one."""

import os

import pytest
import torch

from ddpm.params.inputs import Start
from stages import __main__ as runner
from tests.small import small


def test_cublas_is_set_up_for_equal_bytes_before_a_gpu_is_touched(digits, folder, monkeypatch):
    """cuBLAS reads the variable at its first product and never again; torch then refuses every later one."""

    class TouchedError(Exception):
        pass

    def touch():
        raise TouchedError(os.environ.get("CUBLAS_WORKSPACE_CONFIG", "unset"))

    (folder / "data").mkdir()
    (folder / "data/processed").symlink_to(digits)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on: None)  # the next test is on a CPU
    monkeypatch.setattr(torch.cuda, "_lazy_init", touch)  # torch calls it before anything is done on a GPU
    unet = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
    config = small(data={"image_size": 16}, model={"unet": unet}).model_copy(update={"device": "auto"})
    assert config.train.deterministic
    with pytest.raises(TouchedError, match=r"^:4096:8$"):
        runner.train(config, Start("train", {}, {}, {}))
