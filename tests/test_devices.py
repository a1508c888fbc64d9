"""The machine's name and abilities, as recorded with the scores."""

import os
import platform

import pytest
import torch

from ddpm.compute import devices

CPU = torch.device("cpu")
PLATFORM = platform.processor() or platform.machine()
CPUINFO = """processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
flags\t\t: fpu avx2

processor\t: 1
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
flags\t\t: fpu avx2
"""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (CPUINFO, "AMD EPYC, cpu family 26, model 2"),
        (None, PLATFORM),
        ("processor\t: 0\nCPU implementer\t: 0x41\n", PLATFORM),
    ],
)
def test_a_cpu_is_named_by_its_model_or_where_the_kernel_has_no_name_by_the_platform(tmp_path, content, expected):
    if content:
        (tmp_path / "cpuinfo").write_text(content)
    assert devices.processor(CPU, tmp_path / "cpuinfo") == expected


@pytest.mark.parametrize(("chosen", "threads"), [(None, 1), ("3", 3)])
def test_a_process_has_one_thread_unless_the_environment_says_otherwise(monkeypatch, chosen, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    torch.set_num_threads(3)  # what torch chooses by itself, from three cores or from the variable
    devices.resolve("cpu")
    assert torch.get_num_threads() == threads


def test_compiled_code_is_kept_apart_for_each_version_of_torch(monkeypatch, tmp_path):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folders = []
    for version in ("2.12", "2.13"):
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
        monkeypatch.setattr(torch, "__version__", version)
        devices.resolve("cpu")
        folders.append(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert folders == [str(tmp_path / ".ddpm/compiled/2.12"), str(tmp_path / ".ddpm/compiled/2.13")]
