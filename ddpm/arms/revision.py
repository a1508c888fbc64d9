"""The code of a commit: whether what is checked out is one, and its files in a folder of their own, so that experiments
run it whatever is edited meanwhile."""

import math
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import pygit2
from pygit2.enums import CheckoutStrategy, FileMode

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.locks import lock
from ddpm.runs import library

FOLDER = Path(".ddpm/code")
CODE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, next to its params
EXPORT = CheckoutStrategy.FORCE | CheckoutStrategy.DONT_UPDATE_INDEX | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
GUARDED = {*CODE, "params.yaml", "studies", "ladders", "metrics"}  # in these, git may have no link that leads outside


def head() -> str:
    """The commit that is checked out. Raises UserError if there is none."""
    return find("HEAD")


def find(name: str) -> str:
    """The commit with that name or beginning of its digest. Raises UserError."""
    try:
        return str(library.repository().revparse_single(name).peel(pygit2.Commit).id)
    except (KeyError, ValueError, pygit2.GitError) as error:
        raise UserError(f"{name}: no such commit here, and experiments run one; `git log` lists them") from error


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
    if index is None and pygit2.discover_repository(".") is None:
        return
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
    own = tree[str(below)].peel(pygit2.Tree) if str(below) in tree else tree
    names = sorted(name for name in {*CODE, *(Path(path).parts[0] for path in more)} if name in own)
    folder = place / files.digest({name: str(own[name].id) for name in names})[:16]
    with lock(folder.with_suffix(".lock"), math.inf):  # another job may be at it, or run it already
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        git.checkout_tree(own, directory=str(fresh.absolute()), paths=names, strategy=EXPORT)  # type: ignore[no-untyped-call]
        if not folder.exists():
            fresh.rename(folder)
        elif other := dict(_content(fresh).items() ^ _content(folder).items()):
            raise UserError(
                f"{folder / min(other)}: not what commit {commit[:10]} has, and it would run: `ddpm study clean` "
                "removes the copy, and the next run makes it again"
            )
        # compiled Python would run instead of a file; a process that runs this code may compile it meanwhile
        for left in (fresh, *folder.rglob("__pycache__")):
            shutil.rmtree(left, ignore_errors=True)
    return folder


def _content(folder: Path) -> dict[Path, str]:
    """The digest of each file in a folder but compiled Python, and where each link leads."""
    links = {path: f"a link to {path.readlink()}" for path in folder.rglob("*") if path.is_symlink()}
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    whole = {path: files.md5(path) for path in paths} | links
    return {path.relative_to(folder): content for path, content in whole.items()}
