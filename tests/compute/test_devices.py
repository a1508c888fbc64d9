"""The machine's name and abilities, as recorded with the scores."""

import pytest
import torch

from ddpm.base.errors import UserError
from ddpm.compute import devices

CPU = torch.device("cpu")


@pytest.mark.parametrize(("chosen", "threads"), [(None, 1), ("3", 3)])
def test_a_process_has_one_thread_unless_the_environment_says_otherwise(monkeypatch, chosen, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    torch.set_num_threads(3)  # what torch chooses by itself, from three cores or from the variable
    devices.resolve("cpu")
    assert torch.get_num_threads() == threads


@pytest.fixture
def one_gpu(monkeypatch):
    """Torch believes that there is a GPU; nothing may compute on it."""
    monkeypatch.setattr(devices, "DRIVER", None)  # a library that is always there: the program itself
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    yield
    torch.use_deterministic_algorithms(False)


def test_a_convolution_in_float32_is_not_rounded_to_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)  # as cuDNN has it
    devices.resolve("cpu")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(("device", "rank"), [("auto", "1"), ("cuda", "1"), ("cuda:1", "0"), ("cuda:128", "0")])
def test_a_rank_without_a_gpu_of_its_own_is_refused(one_gpu, monkeypatch, device, rank):
    monkeypatch.setenv("LOCAL_RANK", rank)
    with pytest.raises(UserError, match=f"^device: '{device}'"):
        devices.resolve(device)


def test_every_stage_asks_for_the_same_bytes_whatever_the_one_before_it_asked_for(one_gpu):
    """Training may do without, and sampling and scoring may follow it in the same process."""
    devices.make_deterministic(devices.resolve("auto"), on=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert devices.resolve("auto") == torch.device("cuda", 0)
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("visible", "names"), [(None, ("0",)), ("", ()), ("2,5", ("2", "5")), ("GPU-1f", ("GPU-1f",))])
def test_gpus_are_those_that_are_visible_or_that_the_driver_has(one_gpu, monkeypatch, visible, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == names
