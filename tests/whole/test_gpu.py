"""``make gpu``: its checks, on a GPU if there is one, and all of it with the CPU standing in."""

import json

import pytest
import torch

from ddpm.compute import devices
from tests.gpu import __main__ as command
from tests.gpu import checks

SLOW = {checks.trainings_give_the_same_bytes_twice_and_after_a_stop}


@pytest.mark.parametrize(
    "check", [pytest.param(check, marks=[pytest.mark.slow] if check in SLOW else []) for check in checks.CHECKS]
)
def test_check(check, folder):
    check(devices.resolve("auto"), folder)


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
