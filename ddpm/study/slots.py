"""Slots: clones of the project, each for one experiment at a time.

A slot belongs to one machine, because DVC's locks know no other machines. It takes the commit's files from this
repository's objects and shares its DVC cache, so data and results are stored once. The process that holds a slot's
lock may clean up whatever a killed one left there.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Event

from ddpm.base.errors import UserError, printable
from ddpm.base.files import atomic_path, try_lock
from ddpm.runs.library import below, repository
from ddpm.study.experiments import Study

FOLDER = Path(".ddpm/studies")  # what this machine alone keeps of studies
SLOTS = FOLDER / "slots"
CONFIG = Path(".dvc/config.local")
STALE = (".dvc/tmp/rwlock", ".dvc/tmp/rwlock.lock")  # what a killed dvc leaves
ERRORS = ("fatal:", "error:", "ERROR:")
MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # variables that lead git and dvc to another repository
PATIENCE = 1.0  # seconds: a process that only checks whether a lock is held holds it for a moment


def state(study: Study) -> Path:
    """The folder for files of this machine alone: logs and failures."""
    return FOLDER / study.name


def failure(study: Study, name: str) -> Path:
    """The file with the reason why an experiment failed here, until it succeeds."""
    return state(study) / f"{name}.failed"


@contextmanager
def locked(path: Path, patience: float = 0.0, stopped: Event | None = None) -> Iterator[int | None]:
    """Hold a file's lock, creating the file if needed; None if another process holds it for ``patience`` seconds, or
    until ``stopped``. It lasts while a process has the descriptor, this one or one that it was handed to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    until = time.monotonic() + patience
    while (lock := try_lock(path)) is None and time.monotonic() < until and not (stopped and stopped.is_set()):
        time.sleep(0.05)
    try:
        yield lock
    finally:
        if lock is not None:
            os.close(lock)


def held(path: Path) -> bool:
    """Whether a process holds the lock of the file."""
    if not path.exists():
        return False
    lock = try_lock(path)
    if lock is not None:
        os.close(lock)
    return lock is None


@contextmanager
def slot(commit: str) -> Iterator[tuple[Path, int]]:
    """The root of a free clone on this machine, with the commit checked out and no other files that git sees, and the
    descriptor of its lock.

    Raises UserError if git or the disk fails.
    """
    for number in count():
        folder = SLOTS / f"{socket.gethostname()}-{number}"
        with locked(folder.with_suffix(".lock")) as lock:
            if lock is not None:
                _prepare(folder.absolute(), commit)
                yield folder.absolute(), lock
                return


def _prepare(folder: Path, commit: str) -> None:
    (folder / ".git/index.lock").unlink(missing_ok=True)
    for left in STALE:
        (folder / below(repository()) / left).unlink(missing_ok=True)
    try:
        if not folder.exists():
            _create(folder)
        _checkout(folder, commit)
    except UserError:  # damaged, perhaps by a full disk: everything in it can be made again
        shutil.rmtree(folder, ignore_errors=True)
        _create(folder)
        _checkout(folder, commit)
    config = folder / below(repository()) / CONFIG
    if not config.exists():  # asking DVC where this repository's cache is takes a second
        config.write_text(f"[cache]\n    dir = {cache()}\n")


def _create(folder: Path) -> None:
    """An empty repository that uses this one's objects."""
    objects = Path(git("rev-parse", "--git-path", "objects")).absolute()
    with atomic_path(folder) as temporary:
        git("init", "--quiet", str(temporary))
        (temporary / ".git/objects/info/alternates").write_text(f"{objects}\n")


def _checkout(folder: Path, commit: str) -> None:
    git("checkout", "--quiet", "--force", "--detach", commit, at=folder)
    git("clean", "--quiet", "--force", "-d", at=folder)


def git(*arguments: str, at: Path | None = None) -> str:
    """git's output, for the repository ``at`` or this one. Raises UserError with git's error if it fails."""
    # by name: from a damaged repository git would go up to this one, and clean that
    where = [f"--git-dir={at / '.git'}", f"--work-tree={at}"] if at else []
    return _answer("git", *where, *arguments, at=at)


def cache() -> str:
    """The folder of this repository's DVC cache. Raises UserError with dvc's error if it fails."""
    return _answer(sys.executable, "-m", "dvc", "cache", "dir")


def environment() -> dict[str, str]:
    """The variables of a command that runs in a slot."""
    variables = {**os.environ}
    for name in MISLEADING:
        variables.pop(name, None)
    return variables


def _answer(*command: str, at: Path | None = None) -> str:
    done = subprocess.run(command, cwd=at, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        first = next((line for line in lines if line.startswith(ERRORS)), lines[-1])
        raise UserError(f"{' '.join(command[-2:])}: {printable(first)}")
    return done.stdout.strip()
