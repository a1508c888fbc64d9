"""A Slurm cluster of two nodes on this machine, from Debian's slurmctld, slurmd, slurm-client and munge."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from getpass import getuser
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
NODES = ("a", "b")


def missing() -> list[str]:
    """The programs that this machine lacks."""
    return [name for name in PROGRAMS if not shutil.which(name, path=path())]


def path() -> str:
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])


class Cluster:
    """Started by ``with``; ended with all that it runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        for name in ("state", "munge"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "munge/key").write_bytes(os.urandom(128))
        (self.folder / "munge/key").chmod(0o400)
        self.conf.write_text(self._settings())
        munge = self.folder / "munge"
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._daemon("munged", "--foreground", "--force", *options)
        self.wait((munge / "socket").exists, "munged has no socket")
        self._daemon("slurmctld", "-D", "-i", "-f", str(self.conf))
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", str(self.conf))
        self.wait(lambda: self.run("sinfo", "-h", "-o", "%T %D") == "idle 2", "the nodes are not idle")
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self.jobs(), *self.daemons[::-1]]:
            process.kill()
        for daemon in self.daemons:
            daemon.wait()

    def _settings(self) -> str:
        host = socket.gethostname()
        ports = [_free_port() for _ in ("controller", *NODES)]
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        lines = [
            "ClusterName=test",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={ports[0]}",
            f"SlurmUser={getuser()}",
            f"SlurmdUser={getuser()}",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"AuthInfo=socket={self.folder}/munge/socket",
            f"StateSaveLocation={self.folder}/state",
            f"SlurmdSpoolDir={self.folder}/spool-%n",
            f"SlurmctldPidFile={self.folder}/slurmctld.pid",
            f"SlurmdPidFile={self.folder}/slurmd-%n.pid",
            f"SlurmctldLogFile={self.folder}/slurmctld.log",
            f"SlurmdLogFile={self.folder}/slurmd-%n.log",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_Core",
            "ReturnToService=2",
            "SlurmdTimeout=5",
            "SchedulerParameters=batch_sched_delay=1,sched_interval=2",
            "SlurmdParameters=config_overrides",
            *nodes,
            "PartitionName=all Nodes=a,b Default=YES MaxTime=INFINITE State=UP",
        ]
        return "".join(f"{line}\n" for line in lines)

    def _daemon(self, *command: str) -> None:
        log = (self.folder / f"{len(self.daemons)}-{command[0]}.out").open("wb")
        process = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=subprocess.STDOUT)
        self.daemons.append(process)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf), "PATH": path()}

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, cwd=cwd, env=self.environment(), capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()}"

    def wait(self, condition: Callable[[], bool], complaint: str, seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, f"{complaint}:\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """The ends of all logs."""
        found = sorted([*self.folder.glob("*.out"), *self.folder.glob("*.log")])
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-2000:]}" for file in found)

    def jobs(self, node: str | None = None) -> list[psutil.Process]:
        """The processes of this cluster's jobs, and their slurmstepd, on one node or on both."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            ours = environment.get("SLURM_CONF") == str(self.conf) and "SLURMD_NODENAME" in environment
            if ours and node in (None, environment["SLURMD_NODENAME"]):
                parents = [parent for parent in process.parents() if "slurmstepd" in parent.name()]
                found += [process, *parents]
        return list(dict.fromkeys(found))

    def kill_node(self, node: str) -> None:
        """As a power cut would: slurmd, and everything that it runs, by SIGKILL."""
        daemon = self.daemons[2 + NODES.index(node)]
        daemon.send_signal(signal.SIGKILL)
        for process in self.jobs(node):
            process.kill()
        daemon.wait()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
