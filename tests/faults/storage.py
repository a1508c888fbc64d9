"""Full disks, read-only folders, torn files, a clock that goes back."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ddpm.base.files import read_json, sha256
from tests.faults.project import OUTS, STAGES, Victim, one_line, stage, wait_for
from tests.faults.table import Trial

MIB = 2**20
UNTRACKED = {"DDPM_TRACKING": "off"}
TORN = 6  # checkpoints of each kind of damage
OUT_OF = dict(zip(STAGES, OUTS, strict=True))
AN_HOUR_BACK = """
import os, time
real, turn = time.time, time.time() + {after}
time.time = lambda: real() - 3600 * (real() > turn)
"""


def trials(blank: Victim, scratch: Path, generator: random.Random) -> Iterator[Trial]:
    whole = blank.copy(scratch / "whole")
    whole.run("dvc", "repro", tracked=False)
    wanted = whole.contents()
    yield from full_disks(whole, wanted, scratch, generator)
    yield from read_only_folders(whole, wanted, scratch)
    yield from torn_checkpoints(whole, wanted, scratch, generator)
    yield from torn_samples(whole, wanted, scratch, generator)
    yield from full_temporary_folder(whole, wanted, scratch)
    yield from clock_that_jumps_back(blank, wanted, scratch)
    shutil.rmtree(whole.folder)


def full_disks(whole: Victim, wanted: dict[str, Any], scratch: Path, generator: random.Random) -> Iterator[Trial]:
    for name in STAGES:
        room = generator.randrange(0, max(1, size(whole.folder / "data" / OUT_OF[name]) // 2))
        for under_dvc in (False, True):
            if not can_mount():
                break
            with small_disk(scratch / "disk", size(whole.folder) + 64 * MIB):
                victim = without(whole.copy(scratch / "disk/victim"), name)
                victim.log = scratch / "disk.log"
                ballast = fill(scratch / "disk", room)
                if under_dvc:
                    code, _ = victim.call("dvc", "repro", name, extra=UNTRACKED)
                    lost = [] if code else ["`dvc repro` ended well on a full disk"]
                else:
                    lost = one_line(*victim.call(*stage(name), extra=UNTRACKED))
                    lost += half_written(victim, whole)
                ballast.unlink()
                more, seconds = recovered(victim, wanted)
            yield Trial("disk full", "under dvc" if under_dvc else "a stage", name, (*lost, *more), seconds)
        limit = generator.randrange(1, 2000)

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        victim = without(whole.copy(scratch / "limited"), name)
        code, said = piped(victim, stage(name), limited)
        lost = one_line(code, said) + half_written(victim, whole)
        more, seconds = recovered(victim, wanted)
        yield Trial("disk full", "RLIMIT_FSIZE", name, (*lost, *more), seconds)
        shutil.rmtree(victim.folder)


def read_only_folders(whole: Victim, wanted: dict[str, Any], scratch: Path) -> Iterator[Trial]:
    for name in STAGES:
        for folder in ("data", "metrics", ".ddpm"):
            if (folder == ".ddpm" and name != "train") or (folder == "metrics" and name in STAGES[:3]):
                continue  # not written to
            victim = without(whole.copy(scratch / "read-only"), name)
            (victim.folder / folder).mkdir(exist_ok=True)
            with read_only(victim.folder / folder):
                lost = one_line(*victim.call(*stage(name), extra=UNTRACKED)) + half_written(victim, whole)
            more, seconds = recovered(victim, wanted)
            yield Trial("read-only", folder, name, (*lost, *more), seconds)
            shutil.rmtree(victim.folder)


def torn_checkpoints(whole: Victim, wanted: dict[str, Any], scratch: Path, generator: random.Random) -> Iterator[Trial]:
    stopped = without(whole.copy(scratch / "stopped"), "train")

    def generations(victim: Victim) -> list[Path]:
        return sorted((victim.folder / ".ddpm/checkpoints").glob("*/*.safetensors"))

    process = stopped.start(*stage("train"), extra=UNTRACKED)
    wait_for(lambda: len(generations(stopped)) == 2, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for damage in (truncated, flipped, blanked):
        for both in [False] * TORN + [True]:
            victim = stopped.copy(scratch / "torn")
            before, last = generations(victim)
            for path in (last, before) if both else (last,):
                damage(path, generator)
            started = time.monotonic()
            code, said = victim.call(*stage("train"), extra=UNTRACKED)
            seconds = time.monotonic() - started
            lost = [] if code == 0 else [f"exit code {code}: {said[-300:]!r}"]
            goes_on = f"resuming after step {int(before.stem)} of" in said
            if "going back to the one before" not in said or goes_on == both:
                lost.append(f"not said, or resumed elsewhere: {said[-300:]!r}")
            lost += recovered(victim, wanted)[0]
            yield Trial(
                "torn checkpoint", f"{damage.__name__}{', both generations' * both}", "train", tuple(lost), seconds
            )
            shutil.rmtree(victim.folder)
    shutil.rmtree(stopped.folder)


def torn_samples(whole: Victim, wanted: dict[str, Any], scratch: Path, generator: random.Random) -> Iterator[Trial]:
    for damage in (truncated, flipped):
        victim = without(whole.copy(scratch / "torn"), "evaluate")
        path = victim.folder / "data/samples/samples.npy"
        content = path.read_bytes()
        path.unlink()  # it may be a link into DVC's cache
        path.write_bytes(content)
        damage(path, generator)
        lost = one_line(*victim.call(*stage("evaluate"), extra=UNTRACKED)) if damage is truncated else []
        more, seconds = recovered(victim, wanted)
        yield Trial("torn samples", damage.__name__, "evaluate", (*lost, *more), seconds)
        shutil.rmtree(victim.folder)


def full_temporary_folder(whole: Victim, wanted: dict[str, Any], scratch: Path) -> Iterator[Trial]:
    """A mount over it that only the run sees; the scratch folder must be elsewhere."""
    if not can_mount():
        return
    for processes in (1, 2):
        victim = without(whole.copy(scratch / "temporary"), "train")
        with small_disk(scratch / "tmp", MIB):
            fill(scratch / "tmp", 0)
            masked = f"mount --bind {scratch / 'tmp'} /tmp && exec dvc repro"
            if processes == 2:
                victim.set(YAML().load(victim.folder / "params.yaml"), {"launch": {"processes": 2}})
            started = time.monotonic()
            code, said = victim.call("unshare", "--mount", "sh", "-c", masked, extra={**UNTRACKED, "TMPDIR": "/tmp"})  # noqa: S108
            seconds = time.monotonic() - started
        lost = [] if code == 0 else [f"exit code {code}: {said[-500:]!r}"]
        lost += victim.lost(wanted) if processes == 1 and not lost else []
        yield Trial("full /tmp", "whole pipeline", f"{processes} ranks", tuple(lost), seconds)
        shutil.rmtree(victim.folder)


def clock_that_jumps_back(blank: Victim, wanted: dict[str, Any], scratch: Path) -> Iterator[Trial]:
    """By an hour, two to eight seconds after each process started; only Python's clock."""
    for after in (2, 4, 8):
        victim = blank.copy(scratch / "clock")
        (victim.folder.parent / "clock-site").mkdir(exist_ok=True)
        (victim.folder.parent / "clock-site/sitecustomize.py").write_text(AN_HOUR_BACK.format(after=after))
        path = f"{victim.folder.parent / 'clock-site'}{os.pathsep}{victim.environment['PYTHONPATH']}"
        started = time.monotonic()
        code, said = victim.call("dvc", "repro", extra={"PYTHONPATH": path})
        lost = [] if code == 0 else [f"exit code {code}: {said[-500:]!r}"]
        lost = lost or victim.lost(wanted) + victim.run_problems()
        yield Trial("clock", "back by an hour", f"after {after} s", tuple(lost), time.monotonic() - started)
        shutil.rmtree(victim.folder)


def without(victim: Victim, name: str) -> Victim:
    """The state in which DVC leaves it before it runs the stage: its outs are gone."""
    out = victim.folder / "data" / OUT_OF[name]
    shutil.rmtree(out)
    return victim


def recovered(victim: Victim, wanted: dict[str, Any]) -> tuple[list[str], float]:
    """What is still lost after ``dvc repro``, and how many seconds that took."""
    started = time.monotonic()
    code, said = victim.call("dvc", "repro", extra=UNTRACKED)
    lost = victim.lost(wanted) if code == 0 else [f"run again: exit code {code}: {said[-500:]!r}"]
    return lost, time.monotonic() - started


def half_written(victim: Victim, whole: Victim) -> list[str]:
    """Files that exist and differ from ``whole``, except those with timings: these must be JSON, or absent."""
    found = []
    for path in (path for out in OUTS for path in (victim.folder / "data" / out).rglob("*") if path.is_file()):
        if sha256(path) != sha256(whole.folder / path.relative_to(victim.folder)):
            found.append(f"half-written: {path}")
    for path in (victim.folder / "metrics").glob("*.json"):
        read_json(path)
    return found + [f"left behind: {path}" for path in victim.folder.rglob(".*.part")]


def piped(victim: Victim, command: Any, before: Callable[[], None]) -> tuple[int, str]:
    """Like ``Victim.call``, but through a pipe: a limit on file sizes would also apply to a log."""
    done = subprocess.run(
        command,
        cwd=victim.folder,
        env=victim.environment | UNTRACKED,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=before,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


def truncated(path: Path, generator: random.Random) -> None:
    os.truncate(path, generator.randrange(path.stat().st_size))


def flipped(path: Path, generator: random.Random) -> None:
    """Flip one bit of the file."""
    with path.open("r+b") as file:
        place = generator.randrange(path.stat().st_size)
        file.seek(place)
        (value,) = file.read(1)
        file.seek(place)
        file.write(bytes([value ^ 1 << generator.randrange(8)]))


def blanked(path: Path, generator: random.Random) -> None:
    """Put noise in a page in the middle, as after a write that never arrived."""
    with path.open("r+b") as file:
        file.seek(generator.randrange(max(1, path.stat().st_size - 4096)))
        file.write(generator.randbytes(4096))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fill(disk: Path, room: int) -> Path:
    """A file that leaves ``room`` bytes free on the disk."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - room - 4096))
    return ballast


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mount") is not None


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """It also works for root, who may ignore permissions."""
    if can_mount():
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    else:
        folder.chmod(0o555)
    try:
        yield
    finally:
        if can_mount():
            subprocess.run(["umount", "--lazy", folder], check=True)
        else:
            folder.chmod(0o755)
