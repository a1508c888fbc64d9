"""Two launchers on this machine stand in for two machines: the commands are those of docs/machines.md."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ddpm.base.files import sha256
from stages.__main__ import SHARED
from tests.stages.test_start import SMALL, merged

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"^.*--nnodes=2.*$", (ROOT / "docs/machines.md").read_text(), re.M)
MODEL = Path("data/model/model.safetensors")
RESULTS = {
    "reference": Path("data/reference/reference.json"),
    "train": MODEL,
    "sample": Path("metrics/sample.json"),
    "evaluate": Path("metrics/evaluate.json"),
}


@pytest.fixture
def project(tmp_path: Path, digits: Path) -> Path:
    return working_folder(tmp_path, digits)


def working_folder(folder: Path, digits: Path) -> Path:
    """One in which preprocess has run, with a network of a few thousand weights."""
    for name in ("ddpm", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "data").mkdir()
    (folder / "data/processed").symlink_to(digits)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> Path:
    """A working folder in which every stage has run."""
    made = working_folder(tmp_path_factory.mktemp("finished"), digits)
    set_params(made, 1)
    for stage in RESULTS:
        code, said = finish(start(made, f"python -m stages {stage}"))
        assert code == 0, said
    return made


def set_params(project: Path, processes: int, **train: int) -> None:
    params = merged(yaml.safe_load((ROOT / "ddpm/presets/digits.yaml").read_text()), SMALL)
    (project / "params.yaml").write_text(
        yaml.safe_dump(merged(params, {"launch": {"processes": processes}, "train": train}))
    )


def start(project: Path, command: str) -> subprocess.Popen[str]:
    _, *arguments = shlex.split(command)
    python = [sys.executable] if command.startswith("python") else [sys.executable, "-m", "torch.distributed.run"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "DDPM_"))}
    return subprocess.Popen(
        [*python, *arguments],
        cwd=project,
        env=environment | {"DDPM_TRACKING": "off"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_two(project: Path, command: str) -> list[subprocess.Popen[str]]:
    """Started as on two machines of one process each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = command.replace("node0:29400", f"localhost:{port}").replace("--nproc-per-node=8", "--nproc-per-node=1")
    return [start(project, command) for _ in range(2)]


def finish(process: subprocess.Popen[str], seconds: float = 400) -> tuple[int, str]:
    _, said = process.communicate(timeout=seconds)
    return process.returncode, said


@pytest.mark.slow
def test_two_machines_make_the_model_of_two_processes(project: Path) -> None:
    set_params(project, 2)
    code, said = finish(start(project, "python -m stages train"))
    assert code == 0, said
    expected = sha256(project / MODEL)
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        (project / MODEL).unlink()
        set_params(project, 1)
        for machine in on_two(project, command):
            code, said = finish(machine)
            assert code == 0, said
        assert sha256(project / MODEL) == expected, command


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_machine_ends_the_other_with_one_line_and_one_process_resumes(project: Path, lost: int) -> None:
    set_params(project, 1, steps=60, checkpoint_every=5)
    machines = on_two(project, COMMANDS[0])
    while not list(project.glob(".ddpm/checkpoints/*/*.safetensors")):
        for machine in machines:
            assert machine.poll() is None, machine.communicate()[1]
        time.sleep(0.05)
    ranks = family(machines[lost])[1:]
    machines[lost].kill()
    assert_ends_with_one_line(machines[1 - lost], 60)
    psutil.wait_procs(ranks, timeout=60)
    assert not (project / MODEL).exists()

    code, said = finish(start(project, "python -m stages train"))
    assert code == 0, said
    assert "resuming after step" in said
    assert (project / MODEL).exists()


def forget(project: Path, stage: str) -> None:
    """Make the stage run from its beginning."""
    (project / RESULTS[stage]).unlink(missing_ok=True)
    shutil.rmtree(project / ".ddpm/checkpoints", ignore_errors=True)


def wait_until_ranks_meet(machines: list[subprocess.Popen[str]]) -> None:
    """Return when a rank of one has a connection to a rank of the other: the stage itself begins."""
    met = False
    while not met:
        time.sleep(0.02)  # without it this loop would take one of two cores from what it waits for
        for machine in machines:
            assert machine.poll() is None, machine.communicate()[1]
        first, second = (
            {
                (end.laddr, end.raddr)
                for rank in psutil.Process(machine.pid).children()
                for end in rank.net_connections("tcp")
                if end.status == psutil.CONN_ESTABLISHED
            }
            for machine in machines
        )
        met = any((there, here) in second for here, there in first)


def family(machine: subprocess.Popen[str]) -> list[psutil.Process]:
    launcher = psutil.Process(machine.pid)
    return [launcher, *launcher.children(recursive=True)]


def hosts(machine: subprocess.Popen[str]) -> bool:
    """Whether the machines met at this one."""
    ends = psutil.Process(machine.pid).net_connections("tcp")
    return any(end.status == psutil.CONN_LISTEN and str(end.laddr.port) in machine.args[-1] for end in ends)


def assert_ends_with_one_line(machine: subprocess.Popen[str], seconds: float) -> None:
    ranks = family(machine)[1:]
    code, said = finish(machine, seconds)
    assert code == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert re.search("another machine stopped|lost each other|lost the others", line)
    assert "run the same command again" in line
    assert "Traceback" not in said
    assert "frame #" not in said  # torch's own, of C++
    assert not psutil.wait_procs(ranks, timeout=10)[1]


@pytest.mark.slow
def test_a_machine_that_stalls_for_20_seconds_is_waited_for(finished: Path) -> None:
    machines = meet(finished, "train")
    stalled = family(machines[1])
    for process in stalled:
        process.suspend()
    time.sleep(20)
    for process in stalled:
        process.resume()
    for machine in machines:
        code, said = finish(machine)
        assert code == 0, said
    assert (finished / MODEL).exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", RESULTS)
def test_every_shared_stage_ends_when_a_command_is_killed_and_runs_on_one(finished: Path, stage: str) -> None:
    assert set(RESULTS) == SHARED
    gone, left = meet(finished, stage)
    everyone = family(gone)
    gone.kill()
    try:
        assert_ends_with_one_line(left, 60)
    finally:
        end(everyone)
    assert_runs_on_one(finished, stage)


@pytest.mark.slow
def test_every_shared_stage_ends_when_a_machine_falls_silent_and_runs_on_one(finished: Path, tmp_path: Path) -> None:
    """A machine without power closes no connection, and neither do stopped processes. All at once: they mostly wait."""
    silent: list[psutil.Process] = []
    lost = []
    try:
        for stage, the_host in (*((stage, True) for stage in RESULTS), ("train", False)):
            folder = shutil.copytree(finished, tmp_path / f"{stage}-{the_host}", symlinks=True)
            gone, left = meet(folder, stage)[:: -1 if the_host else 1]
            silent += family(gone)
            for process in family(gone):
                process.suspend()
            lost.append((time.monotonic(), folder, stage, left))
        for since, _, _, left in lost:
            assert_ends_with_one_line(left, max(since + 60 - time.monotonic(), 1))
    finally:
        end(silent)
    for _, folder, stage, _ in lost:
        assert_runs_on_one(folder, stage)


def meet(folder: Path, stage: str) -> list[subprocess.Popen[str]]:
    """The stage on two machines, from its beginning, once they have met: last, the one at which they did."""
    forget(folder, stage)
    machines = on_two(folder, COMMANDS[0].replace("train", stage))
    wait_until_ranks_meet(machines)
    return sorted(machines, key=hosts)


def end(processes: list[psutil.Process]) -> None:
    for process in processes:
        if process.is_running():
            process.kill()


def assert_runs_on_one(folder: Path, stage: str) -> None:
    """Nothing was half done, and the stage can still be."""
    assert not (folder / RESULTS[stage]).exists()
    code, said = finish(start(folder, f"python -m stages {stage}"))
    assert code == 0, said
    assert (folder / RESULTS[stage]).exists()
