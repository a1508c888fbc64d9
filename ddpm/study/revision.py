"""The code of a commit: whether what is checked out is one, and its files in a folder of their own, so that experiments
run it whatever is edited meanwhile."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from pathlib import Path

import pygit2
from pygit2.enums import CheckoutStrategy

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.locks import lock
from ddpm.runs import library

FOLDER = Path(".ddpm/code")
CODE = ("ddpm", "stages", "dvc.yaml", ".dvcignore")  # what a result depends on, next to its params


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


def check_committed(paths: Collection[str], why: str = "and experiments run a commit: commit or discard them") -> None:
    """Raises UserError unless these files and folders are what was committed last."""
    if changed := library.find_uncommitted(paths):
        raise UserError(f"{changed[0]}: has uncommitted changes, {why}")


def export(commit: str, more: Collection[str] = ()) -> Path:
    """A folder with the code of the commit, and the files ``more``; equal code has the same folder."""
    git = library.repository()
    below, tree = library.below(git), git[commit].peel(pygit2.Tree)
    names = {*CODE, *(Path(path).parts[0] for path in more)}
    paths = sorted(str(below / name) for name in names if str(below / name) in tree)
    folder = FOLDER / files.digest({path: str(tree[path].id) for path in paths})[:16]
    with lock(folder.with_suffix(".lock"), math.inf):  # another job may be at it, or run it already
        if folder.exists():
            return folder
        # the tree of the project alone; the index of the repository stays as it is
        strategy = CheckoutStrategy.FORCE | CheckoutStrategy.DONT_UPDATE_INDEX | CheckoutStrategy.DISABLE_PATHSPEC_MATCH
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            place = str(temporary.absolute())
            git.checkout_tree(git[commit], directory=place, paths=paths, strategy=strategy)  # type: ignore[no-untyped-call]
            if below.parts:
                for name in names:
                    if (temporary / below / name).exists():
                        shutil.move(temporary / below / name, temporary / name)
    return folder
