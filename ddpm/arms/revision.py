"""The code of a commit: whether what is checked out is one, and its files in a folder of their own, so that experiments
run it whatever is edited meanwhile."""

import math
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pygit2
from pygit2.enums import CheckoutStrategy, DeltaStatus, DiffOption, FileMode

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.locks import lock
from ddpm.runs import library

FOLDER = Path(".ddpm/code")
CODE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, next to its params
EXPORT = CheckoutStrategy.FORCE | CheckoutStrategy.DONT_UPDATE_INDEX | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
GUARDED = {*CODE, "params.yaml", "studies", "ladders", "metrics"}  # in these, git may have no link that leads outside


def head() -> str:
    """The commit that is checked out. Raises UserError if there is none."""
    git = library.repository()
    if git.head_is_unborn:
        raise UserError(f"{git.workdir}: nothing is committed, and experiments run a commit")
    return str(git.head.peel(pygit2.Commit).id)


def find(name: str) -> str:
    """The commit with that name or beginning of its digest. Raises UserError."""
    try:
        return str(library.repository().revparse_single(name).peel(pygit2.Commit).id)
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise UserError(f"--commit: {name}: no such commit here; allowed: one that `git log` lists") from error


def subject(commit: str) -> str:
    """The first line of a commit's message; empty if the commit is not here."""
    try:
        return library.repository()[commit].peel(pygit2.Commit).message.strip().partition("\n")[0]
    except (KeyError, UserError):
        return ""


def check_committed(paths: Collection[str], why: str = "and experiments run a commit: commit or discard them") -> None:
    """Raises UserError unless these files and folders are what was committed last."""
    if changed := library.find_uncommitted(paths):
        raise UserError(f"{changed[0]}: has uncommitted changes, {why}")


def check_index(index: pygit2.Index | None = None) -> None:
    """Raises UserError if git has a file in .ddpm, or a link among GUARDED that leads outside the repository: whoever
    wrote the commit would choose what is run, read or written here. index: by default of what is checked out."""
    git = library.repository()
    below, own = library.below(git).as_posix().removeprefix("."), FOLDER.parts[0]
    for entry in git.index if index is None else index:
        top = entry.path.removeprefix(below).strip("/").partition("/")[0] if entry.path.startswith(below) else ""
        if top == own:
            why = "is in git, but holds what this machine makes: look at who added it"
            raise UserError(f"{entry.path}: {why}, and `git rm -r --cached {own}`")
        if entry.mode == FileMode.LINK and top in GUARDED:
            place = Path(entry.path).parent / os.fsdecode(git[entry.id].read_raw())
            if place.is_absolute() or os.path.normpath(place).startswith(".."):
                raise UserError(f"{entry.path}: is a link out of the repository in git: replace it by what it leads to")


def export(commit: str, more: Collection[str] = (), place: Path = FOLDER) -> Path:
    """A folder below ``place`` with the code of the commit, and the files ``more``; equal code has the same folder.

    Raises UserError if the folder is there and holds anything else, or if git has what ``check_index`` refuses.
    """
    git, index = library.repository(), pygit2.Index()
    below, tree = library.below(git), git[commit].peel(pygit2.Tree)
    index.read_tree(tree)
    check_index(index)
    names = {*CODE, *(Path(path).parts[0] for path in more)}
    paths = sorted(str(below / name) for name in names if str(below / name) in tree)
    folder = place / files.digest({path: str(tree[path].id) for path in paths})[:16]
    with lock(folder.with_suffix(".lock"), math.inf):  # another job may be at it, or run it already
        if not folder.exists():
            # the tree of the project alone; the index of the repository stays as it is
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                git.checkout_tree(git[commit], directory=str(temporary.absolute()), paths=paths, strategy=EXPORT)  # type: ignore[no-untyped-call]
                for name in names if below.parts else ():
                    if (temporary / below / name).exists():
                        shutil.move(temporary / below / name, temporary / name)
        for cache in [*folder.rglob("__pycache__")]:  # compiled Python would run instead of a file
            shutil.rmtree(cache, ignore_errors=True)
        copy = pygit2.Repository(git.path)
        copy.workdir = str(folder.absolute())
        own = tree[str(below)].id if below.parts else tree.id
        diff = copy[own].peel(pygit2.Tree).diff_to_workdir(DiffOption.INCLUDE_UNTRACKED | DiffOption.INCLUDE_IGNORED)
        changed = {Path(delta.new_file.path): delta.status for delta in diff.deltas}
        # what was not exported is missing, and a process that runs this code may compile it meanwhile
        gone = {at for at, status in changed.items() if status == DeltaStatus.DELETED and at.parts[0] not in names}
        if other := [at for at in changed if at not in gone and "__pycache__" not in at.parts]:
            raise UserError(
                f"{folder / other[0]}: not what commit {commit[:10]} has, and it would run: `ddpm study clean` removes "
                "the copy, and the next run makes it again"
            )
    return folder
