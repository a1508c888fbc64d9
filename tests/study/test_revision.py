"""The code of a commit in a folder of its own: the same bytes as git has, whoever was there before."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from ddpm.arms import revision
from ddpm.base.errors import UserError
from tests.study_project import PLAN, RESULTS, commit, git, study

pytestmark = pytest.mark.usefixtures("project")
STAGE = Path("stages/__main__.py")


def export() -> Path:
    return revision.export(revision.head())


def test_an_export_is_what_git_has_with_modes_and_links():
    Path("stages/tool.sh").write_text("true")
    Path("stages/tool.sh").chmod(0o755)
    Path("stages/link.py").symlink_to("__main__.py")
    commit("a program and a link")
    folder = export()
    names = git("ls-files", "stages").splitlines()
    assert {str(path.relative_to(folder)) for path in (folder / "stages").rglob("*")} == {*names}
    assert all((folder / name).read_bytes() == Path(name).read_bytes() for name in names)
    assert (folder / "stages/tool.sh").stat().st_mode & stat.S_IXUSR
    assert os.readlink(folder / "stages/link.py") == "__main__.py"  # noqa: PTH115
    assert export() == folder


def _edit_secretly(path: Path) -> None:
    """With the size and the times that it had."""
    before = path.stat()
    path.write_text(path.read_text().replace("2 + 0.1", "9 + 0.1"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(STAGE.absolute())  # the same bytes, until they are edited


CHANGES = {
    "stages/__main__.py": [_edit_secretly, _link], "stages/yaml.py": [Path.touch],
    "numpy/__init__.py": [lambda path: path.parent.mkdir() or path.touch()],
    "numpy": [lambda path: path.symlink_to(Path("ddpm").absolute())],
    "stages/__pycache__": [lambda path: path.symlink_to(Path("stages").absolute())],
}  # fmt: skip


def test_a_copy_that_is_not_the_commits_is_refused(capsys):
    for name, changes in CHANGES.items():
        for change in changes:
            change(export() / name)
            with pytest.raises(UserError, match=name):
                export()
            shutil.rmtree(revision.FOLDER)
    export().joinpath(STAGE).write_text("other code")
    assert study("run", str(PLAN)) == 2
    assert str(STAGE) in capsys.readouterr().err
    assert not RESULTS.exists()


def test_a_commit_may_bring_neither_copies_nor_links_that_lead_outside(capsys):
    copy = export() / STAGE
    git("add", "--force", str(copy))
    git("commit", "--quiet", "--message", "tidy")
    assert study("run", str(PLAN)) == 2
    assert str(copy) in capsys.readouterr().err
    git("rm", "-r", "--quiet", "--cached", ".ddpm")
    for link, target in ((RESULTS, "../../../outside"), (Path("stages/more"), "/tmp")):  # noqa: S108
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        commit("a link")
        for command in ("run", "verdict"):
            assert study(command, str(PLAN)) == 2
            assert f"{link}: is a link" in capsys.readouterr().err
        link.unlink()
        link.symlink_to("loss.csv")  # inside
        commit("another")
        revision.check_index()
        link.unlink()
        commit("no link")
    secret = PLAN.with_name("secret.yaml")
    secret.symlink_to("/etc/passwd")
    commit("a plan")
    assert study("run", str(secret)) == 2
    assert f"{secret}: is a link" in capsys.readouterr().err  # before it is read
    with pytest.raises(UserError, match=r"stages/more"):
        revision.export(git("rev-parse", "HEAD~3"))  # with a link outside


def test_compiled_code_next_to_it_is_removed():
    cache = export() / "stages/__pycache__"
    cache.mkdir()
    (cache / "experiment.cpython-311.pyc").write_bytes(b"taken for stages/experiment.py")
    assert export() == cache.parents[1]
    assert not cache.exists()
