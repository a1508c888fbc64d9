"""``make gpu``: its checks, on a GPU if there is one; all of it with the CPU standing in; and what its file says of
faults."""

import json

import pytest
import torch

from ddpm.compute import devices
from tests.gpu import __main__ as command
from tests.gpu import checks, work
from tests.gpu.report import LeftOut, Report
from tests.shelves import covering_rows

LONG = {checks.trainings_give_the_same_bytes_twice_and_after_a_stop}


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, marks=[pytest.mark.long if check in LONG else pytest.mark.slow]) for check in checks.CHECKS],
)
def test_check(check, folder):
    report = Report(folder / "gpu.json")
    report.run("check", check(devices.resolve("auto"), folder))
    assert report.groups["check"]
    assert report.failures() == [], report.groups


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    with pytest.raises(SystemExit) as end:
        command.main([])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "'cuda' is not there" in error


def run(tmp_path) -> tuple[int, dict]:
    """The exit code, and each group of the file."""
    out = tmp_path / "gpu.json"
    with pytest.raises(SystemExit) as end:
        command.main(["--device", "cpu", "--quick", "--out", str(out)])
    return end.value.code, json.loads(out.read_text())


@pytest.mark.long
def test_the_file_has_each_fault_with_its_variant_figures_and_traceback_and_all_else(tmp_path, monkeypatch, capsys):
    """A wrong kernel in one variant, an exception in one network, and one in the benchmark."""
    plain = {"network": "unet", "optimizer": "adamw", "ema": "constant", "loss": "simple", "sampler": "ddim",
             "weight": 1.0, "timestep_sampler": "uniform"}  # fmt: skip
    row = covering_rows()[0][0] | plain
    rows = [row | {"loss": "p2"}, row | {"network": "dit"}, row]
    made = []

    class Faulty(checks.Trainer):
        def __init__(self, config, *rest, **more):
            super().__init__(config, *rest, **more)
            made.append(self)
            self.wrong = 1.01 if config.diffusion.loss.name == "p2" and len(made) % 2 else 1.0

        def step(self, step):
            if self.config.model.name == "dit":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            loss, norm = super().step(step)
            return loss * self.wrong, norm

    def lost(device, width):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(checks, "Trainer", Faulty)
    monkeypatch.setattr(checks, "covering_rows", lambda: (rows, []))
    check = checks.steps_of_every_variant_agree_with_a_cpu_and_do_not_wait
    monkeypatch.setattr(checks, "CHECKS", (check,))
    monkeypatch.setattr(work, "stages", lambda device, folder: iter(()))
    monkeypatch.setattr(work, "LIBRARIES", {"lost": lost, **work.LIBRARIES})
    code, written = run(tmp_path)
    assert code == 2
    assert "3 cases failed" in capsys.readouterr().err
    (first, wrong), (second, illegal), (third, right) = written[check.__name__].items()
    assert "loss p2" in first
    assert "loss and gradient norm at step 1" in wrong["error"]
    assert "network dit" in second
    assert "illegal memory access" in illegal["error"]
    assert "checks.py" in illegal["traceback"]
    assert "loss simple" in third
    assert "error" not in right
    assert len(right["figures"]) == 2
    benchmark = written["benchmark"]
    assert "unspecified launch failure" in benchmark["lost, batch 2"]["error"]
    assert all(benchmark[name]["figures"]["host_ms"] > 0 for name in ("ours, batch 2", "ours, channels_last, batch 2"))
    assert {
        "article: diffusers, batch 2",
        "denoising-diffusion-pytorch, batch 2",
    } <= benchmark.keys()  # after the fault
    rows = written["profile"]["ours"]["figures"]["rows"]
    assert rows[0]["us"] >= rows[1]["us"] > 0
    assert max(row["calls"] for row in rows) >= work.PROFILED


def test_the_file_is_whole_after_each_case_and_nothing_stops_the_rest(tmp_path, capsys):
    report = Report(tmp_path / "gpu.json")
    seen = []

    def cases():
        yield "nan", lambda: {"norm": float("nan"), "sizes": [1, float("inf")]}
        seen.append(json.loads(report.path.read_text())["g"])
        yield "there is none", lambda: (_ for _ in ()).throw(LeftOut("no GPU"))
        yield "long", lambda: (_ for _ in ()).throw(ValueError("x" * 10**5))
        seen.append(json.loads(report.path.read_text())["g"])
        raise OSError("the list itself")

    report.run("g", cases())
    assert seen[0]["nan"]["figures"] == {"norm": "NaN", "sizes": [1, "Infinity"]}
    assert seen[1]["there is none"]["left_out"] == "no GPU"
    assert len(seen[1]["long"]["traceback"]) < 10**4
    assert report.failures() == ["g: long", "g: the list of cases"]
    assert capsys.readouterr().out.count("\n") == 4


@pytest.mark.long
def test_the_whole_of_it_runs_tiny_on_a_cpu(tmp_path, capsys):
    code, written = run(tmp_path)
    assert not code, [name for group in written.values() for name, case in group.items() if "error" in case]
    groups = written
    assert groups.keys() == {"about", *(check.__name__ for check in checks.CHECKS), "stages", "profile", "benchmark"}
    assert {f"{stage}, {ranks} ranks" for stage in work.STAGES for ranks in (1, 2)} == groups["stages"].keys()
    assert {"ours, batch 2", "article: diffusers, batch 2"} <= groups["benchmark"].keys()
    assert "| ours, batch 2" in capsys.readouterr().out
