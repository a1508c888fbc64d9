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
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from itertools import count
from pathlib import Path

from ddpm.base.errors import UserError, printable
from ddpm.base.locks import lock
from ddpm.runs.library import below, repository
from ddpm.study.plan import Study

FOLDER = Path(".ddpm/studies")  # what this machine alone keeps of studies
SLOTS = FOLDER / "slots"
CONFIG = Path(".dvc/config.local")
STALE = (".dvc/tmp/rwlock", ".dvc/tmp/rwlock.lock")  # what a killed dvc leaves
FAILED = "failed: "  # begins the last line of a log
MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # variables that lead git and dvc to another repository
PATIENCE = 1.0  # seconds: a process that only checks whether a lock is held holds it for a moment


def logs(study: Study) -> Path:
    """The folder with what the experiments' commands print on this machine."""
    return FOLDER / study.name


def log(study: Study, name: str) -> Path:
    """The log of an experiment, in a folder that exists."""
    logs(study).mkdir(parents=True, exist_ok=True)
    return logs(study) / f"{name}.log"


def fail(study: Study, name: str, reason: str) -> None:
    """End the experiment's log with the reason of its failure."""
    with log(study, name).open("a") as file:
        file.write(f"\n{FAILED}{reason}\n")


def failure(study: Study, name: str) -> str | None:
    """Why an experiment failed here, if nothing has run for it since."""
    path = log(study, name)
    last = path.read_text(errors="replace").rstrip().rpartition("\n")[2] if path.exists() else ""
    return last.removeprefix(FAILED) if last.startswith(FAILED) else None


@contextmanager
def slot(commit: str) -> Iterator[tuple[Path, FileIO]]:
    """The project in a free clone on this machine, with the commit checked out and no other files that git sees, and
    its lock.

    Raises UserError if git or the disk fails.
    """
    for number in count():
        clone = (SLOTS / f"{socket.gethostname()}-{number}").absolute()
        with lock(clone.with_suffix(".lock")) as mine:
            if mine is not None:
                yield _prepared(clone, commit), mine
                return


def _prepared(clone: Path, commit: str) -> Path:
    folder = clone / below(repository())
    for left in (clone / ".git/index.lock", *(folder / name for name in STALE)):
        left.unlink(missing_ok=True)
    try:
        _checkout(clone, commit)
    except UserError:  # new, or damaged, perhaps by a full disk: everything in it can be made again
        shutil.rmtree(clone, ignore_errors=True)
        git("clone", "--quiet", "--shared", "--no-checkout", repository().workdir, str(clone))
        _checkout(clone, commit)
    config = folder / CONFIG
    if not config.exists():  # asking DVC where this repository's cache is takes a second
        config.write_text(f"[cache]\n    dir = {cache()}\n")
    return folder


def _checkout(folder: Path, commit: str) -> None:
    git("checkout", "--quiet", "--force", "--detach", commit, at=folder)
    git("clean", "--quiet", "--force", "-d", at=folder)


def git(*arguments: str, at: Path | None = None) -> str:
    """git's output, for the repository ``at`` or this one. Raises UserError with git's error if it fails."""
    # by name: from a damaged repository git would go up to this one, and clean that
    where = [f"--git-dir={at / '.git'}", f"--work-tree={at}"] if at else []
    return _answer("git", *where, *arguments)


def cache() -> str:
    """The folder of this repository's DVC cache. Raises UserError with dvc's error if it fails."""
    return _answer(sys.executable, "-m", "dvc", "cache", "dir")


def environment() -> dict[str, str]:
    """The variables of a command that runs in a slot."""
    return {name: os.environ[name] for name in os.environ if name not in MISLEADING}


def _answer(*command: str) -> str:
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise UserError(f"{' '.join(command[-2:])}: {printable(said.splitlines()[-1])}")
    return done.stdout.strip()
