"""Folders with the files of a commit, each for one run at a time, below .ddpm/ and gone afterwards."""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pygit2

from ddpm.base.errors import UserError, printable
from ddpm.base.locks import try_lock
from ddpm.runs import library

FOLDER = Path(".ddpm/worktrees")
PAGES = ("ladders/*/page.html", "metrics/studies/*/page.html")
MARK = "DDPM_WORKTREE"  # in the environment of a run and of all that it starts: its folder


@contextmanager
def check_out(commit: str, links: Collection[str] = ()) -> Iterator[Path]:
    """The project's folder in a worktree of the commit, with links to what git does not have. Raises UserError if one
    is not there, or git has it."""
    hide_folder()
    _remove_leftovers()
    place = (FOLDER / uuid.uuid4().hex[:12]).absolute()
    holder = try_lock(place.with_suffix(".lock"))
    try:
        git("worktree", "add", "--quiet", "--detach", "--force", str(place), commit)
        folder = place / library.below(library.repository())
        if not folder.is_dir():
            raise UserError(f"commit {commit[:10]} does not have the folder {Path.cwd()}")
        for path in links:
            if not Path(path).exists():
                raise UserError(f"links: {path}: no such file or folder here")
            if (folder / path).exists():
                raise UserError(f"links: {path}: is in git, so each run has it; leave it out")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).symlink_to(Path(path).absolute())
        yield folder
    finally:
        _remove(place)
        if holder:
            holder.close()


def kill(mark: Path, group: int | None = None) -> None:
    """Kill a process group, and all that has the mark in its environment: also what has left the group."""
    if group is not None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(str(mark)):
                process.kill()


def git(*words: str) -> str:
    """What git prints; no hook of the repository runs. Raises UserError with its last line."""
    command = ["git", "-c", "core.hooksPath=/dev/null", *words]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise UserError(f"git {words[0]}: cannot be run ({error.strerror}): install git") from error
    if done.returncode:
        line = (done.stderr.strip().splitlines() or [""])[-1]
        raise UserError(f"git {words[0]}: {printable(line)}")
    return done.stdout


def hide_folder() -> None:
    """Keep git, if there is one, from seeing .ddpm, and pages that are rewritten while something runs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (ignore := FOLDER.parent / ".gitignore").exists() and pygit2.discover_repository("."):
        ignore.write_text("*\n")
        exclude = Path(git("rev-parse", "--git-path", "info/exclude").strip())
        exclude.parent.mkdir(exist_ok=True)
        with exclude.open("a") as file:
            file.write("".join(f"{page}\n" for page in PAGES))


def _remove_leftovers() -> None:
    """Remove the worktrees of processes that were killed, and what still runs in them."""
    for path in FOLDER.glob("*.lock"):
        if (holder := try_lock(path)) is not None:
            place = path.with_suffix("").absolute()
            kill(place)
            _remove(place)
            holder.close()


def _remove(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    git("worktree", "prune")
    place.with_suffix(".lock").unlink(missing_ok=True)
