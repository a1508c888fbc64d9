"""``make gpu``: its checks, on a GPU if there is one; all of it with the CPU standing in; and what its file says of
faults."""

import json

import pytest

from ddpm.compute import devices
from tests.gpu import __main__ as command
from tests.gpu import checks, work
from tests.gpu.report import Report

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


@pytest.mark.long
def test_the_whole_of_it_runs_tiny_on_a_cpu(tmp_path):
    out = tmp_path / "gpu.json"
    with pytest.raises(SystemExit) as end:
        command.main(["--device", "cpu", "--quick", "--out", str(out)])
    written = json.loads(out.read_text())
    assert not end.value.code, [name for group in written.values() for name, case in group.items() if "error" in case]
    assert written.keys() == {"about", *(check.__name__ for check in checks.CHECKS), "stages", "benchmark"}
    assert {f"{stage}, {ranks} ranks" for stage in work.STAGES for ranks in (1, 2)} == written["stages"].keys()
    assert written["benchmark"].keys() == {f"{layout}, batch 2" for layout in ("plain", "channels_last")}
    assert all(case["figures"]["ms"] > 0 for case in written["benchmark"].values())
