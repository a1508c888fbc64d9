"""Two launchers on this machine stand in for two machines: the commands are those of docs/machines.md."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from ddpm.base.files import sha256
from tests.stages.test_start import SMALL, merged

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"^.*--nnodes=2.*$", (ROOT / "docs/machines.md").read_text(), re.M)
MODEL = Path("data/model/model.safetensors")


@pytest.fixture
def project(tmp_path: Path, digits: Path) -> Path:
    """A working folder in which preprocess has run, with a network of a few thousand weights."""
    for name in ("ddpm", "stages", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/processed").symlink_to(digits)
    return tmp_path


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
    ranks = psutil.Process(machines[lost].pid).children()
    machines[lost].kill()
    code, said = finish(machines[1 - lost], 60)
    assert code == 2, said
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert re.search("another machine stopped|lost each other|lost the others", line)
    assert "run the same command again" in line
    assert "Traceback" not in said
    psutil.wait_procs(ranks, timeout=60)
    assert not (project / MODEL).exists()

    code, said = finish(start(project, "python -m stages train"))
    assert code == 0, said
    assert "resuming after step" in said
    assert (project / MODEL).exists()
