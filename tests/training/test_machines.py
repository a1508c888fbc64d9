"""torchrun's command of docs/machines.md, twice on this machine as on two."""

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm.base.files import sha256
from tests.small_project import QUICK, ROOT, lay_out

MODEL = Path("data/model/model.safetensors")


def start(project: Path, module: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "DDPM_"))}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=project,
        env=environment | {"DDPM_TRACKING": "off"},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_torchrun_on_two_machines_makes_the_model_of_two_processes(tmp_path, digits):
    lay_out(tmp_path, digits, **QUICK | {"launch": {"processes": 2}})
    alone = start(tmp_path, "stages", "train")
    assert alone.wait(400) == 0, alone.communicate()[1]
    expected = sha256(tmp_path / MODEL)
    (tmp_path / MODEL).unlink()
    (command,) = re.findall(r"^torchrun (--.*)$", (ROOT / "docs/machines.md").read_text(), re.M)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for page, here in (("node0:29400", f"localhost:{port}"), ("--nproc-per-node=8", "--nproc-per-node=1")):
        assert page in command
        command = command.replace(page, here)
    machines = [start(tmp_path, "torch.distributed.run", *shlex.split(command)) for _ in range(2)]
    for machine in machines:
        said = machine.communicate(timeout=400)[1]
        assert machine.returncode == 0, said
    assert sha256(tmp_path / MODEL) == expected
