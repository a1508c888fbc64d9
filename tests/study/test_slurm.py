"""A study as a Slurm array on two nodes: one dies, a job's time ends, another is cancelled. With real Slurm daemons,
both nodes on this machine.

It needs Debian's slurmctld, slurmd, slurm-client and munge, and takes some minutes: pytest -m slurm.
"""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests import study_project
from tests.clone import PARAMS, ROOT, environment
from tests.study_project import commit

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("DDPM_TEST_SLURM"), reason="DDPM_TEST_SLURM=1 starts Slurm's daemons here"),
]
CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=17100
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/ctld.pid
SlurmdPidFile={folder}/d-%n.pid
SlurmctldLogFile={folder}/ctld.log
SlurmdLogFile={folder}/d-%n.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=10
SchedulerParameters=batch_sched_delay=1,sched_interval=2
SlurmdParameters=config_overrides
NodeName=a NodeHostname={host} NodeAddr=127.0.0.1 Port=17101 CPUs=1
NodeName=b NodeHostname={host} NodeAddr=127.0.0.1 Port=17102 CPUs=1
PartitionName=all Nodes=a,b Default=YES MaxTime=INFINITE State=UP
"""
STUDY = study_project.STUDY.replace("[2]", "[3]")


@pytest.fixture
def slurm(tmp_path):
    """The environment of Slurm's commands."""
    folder = tmp_path / "slurm"
    for name in ("state", "munge"):
        (folder / name).mkdir(parents=True)
    host, user = os.uname().nodename, psutil.Process().username()
    (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, host=host, user=user))
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    files = {"key-file": key, "socket": folder / "munge.sock", "pid-file": folder / "munge.pid",
             "log-file": folder / "munge.log", "seed-file": folder / "munge" / "seed"}  # fmt: skip
    started = ["munged", "--force", *(f"--{name}={path}" for name, path in files.items())]
    for command in (started, ["slurmctld", "-i"], *(["slurmd", "-N", node] for node in "ab")):
        subprocess.run(command, env=environment, check=True)
        time.sleep(2)
    yield environment
    for pid in folder.glob("*.pid"):
        if psutil.pid_exists(number := int(pid.read_text())):
            psutil.Process(number).terminate()


def until(what, patience: float) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end
        time.sleep(1)


def submitted(slurm: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch, every: int, *options: str) -> str:
    """The number of the study's job array, in a clone of the project; trainings save their state ``every`` steps."""
    study_project.git("clone", "--quiet", str(ROOT), str(folder))
    monkeypatch.chdir(folder)
    for name, value in (environment(folder) | slurm | {"DDPM_TRACKING": "off"}).items():
        monkeypatch.setenv(name, value)
    params = YAML().load(Path("params.yaml"))
    for section, values in PARAMS.items():
        params[section].update(values)
    params["model"]["unet"].pop("patch_size", None)
    params["train"].update(steps=300, checkpoint_every=every, grid_every=0)
    params["sample"].update(count=100, seeds=[0])
    params["evaluate"].update(metrics=["fid"], likelihood={"images": 0})
    params["compare"]["confidence"] = 0.5
    YAML().dump(params, Path("params.yaml"))
    study_project.PLAN.write_text(STUDY)
    commit("a small study")
    job = ("examples/slurm.sh", str(study_project.PLAN))
    return study_project.run("sbatch", "--parsable", "--array=1-6", "--time=60", *options, *job)


def log(line: int) -> str:
    path = Path(f".ddpm/studies/tiny/{study_project.NAMED[line - 1]}.log")
    return path.read_text() if path.exists() else ""


def saved() -> set[Path]:
    """The trainings that have saved their state."""
    return {path.parent for path in Path(".ddpm/checkpoints").glob("*/*.safetensors")}


def test_an_array_survives_the_death_of_a_node_and_the_end_of_its_time(slurm, tmp_path, monkeypatch):
    submitted(slurm, tmp_path / "project", monkeypatch, 10)
    # both have something to go on from
    until(lambda: "train: " in log(1) and "train: " in log(2) and len(saved()) >= 2, 600)
    running = study_project.run("squeue", "-h", "-t", "R", "-o", "%N %K %A").splitlines()
    on = {node: (int(line), own) for node, line, own in map(str.split, running)}
    (dies, _), (ends, job) = on["b"], on["a"]
    # as Slurm does a minute before the time limit; scancel asks again while the job is being put back
    cancelling = subprocess.Popen(["scancel", "--signal=USR1", "--batch", job], stderr=subprocess.DEVNULL)
    victims = [
        process for process in psutil.process_iter(["environ"])
        if "SLURMD_NODENAME=b" in (f"{k}={v}" for k, v in (process.info["environ"] or {}).items())
    ]  # fmt: skip
    daemon = psutil.Process(int((tmp_path / "slurm" / "d-b.pid").read_text()))
    steps = [parent for process in victims if (parent := process.parent()) and "slurmstepd" in parent.name()]
    # as a node dies: if a job's program were killed before them, they would still report that it has failed
    for process in dict.fromkeys((daemon, *steps, *victims)):
        process.send_signal(signal.SIGKILL)

    def over() -> bool:
        for line in study_project.run("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r").splitlines():
            if line.endswith("BeginTime"):  # Slurm waits two minutes before it starts a job again, unless it just has
                subprocess.run(["scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now"], check=False)
        return not study_project.run("squeue", "-h")

    until(over, 1500)
    cancelling.wait()
    assert set(study_project.records()) == set(study_project.NAMED)
    for line in (dies, ends):
        assert re.search(r"^resuming after step [1-9]\d* of 300$", log(line), re.MULTILINE), log(line)
