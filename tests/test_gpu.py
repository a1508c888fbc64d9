"""``make gpu``: its checks on a GPU, and all of it with the CPU standing in."""

import json

import pytest
import torch

from ddpm.compute import devices
from tests.gpu import __main__ as command
from tests.gpu import checks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("check", checks.CHECKS)
def test_on_a_gpu(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check(devices.resolve("cuda"), tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit) as end:
        command.main([])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'cuda' is not there" in error


@pytest.mark.long
def test_the_whole_of_it_runs_tiny_on_a_cpu(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    with pytest.raises(SystemExit) as end:
        command.main(["--device", "cpu", "--quick", "--out", str(out)])
    output = capsys.readouterr().out
    assert not end.value.code, output
    written = json.loads(out.read_text())
    assert written["checks"] == {check.__name__: "" for check in checks.CHECKS}
    assert {"ours, batch 2", "article: diffusers, batch 2"} <= {key.partition(" [")[0] for key in written["timings"]}
    assert "| ours, batch 2" in output
