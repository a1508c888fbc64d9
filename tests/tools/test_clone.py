"""What ``ddpm check`` looks at besides params.yaml: git, DVC, and where the images come from."""

import os
import shutil
import stat
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pygit2
import pytest
import yaml

import ddpm
from ddpm import cli
from ddpm.base.machine import SITE_CACHE, close_site_cache
from ddpm.params import config, file
from ddpm.tools import clone
from tests.command import run
from tests.scored import git

ROOT = Path(__file__).parents[2]
PRESETS = Path(ddpm.__file__).parent / "presets"
DIGITS = file.read_params(PRESETS / "digits_2026.yaml")
FOLDER = {"name": "image_folder"}


@pytest.fixture(autouse=True)
def _in_a_clone(tmp_path, monkeypatch) -> None:
    """A folder with git, DVC and the digits preset, nothing run yet."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    pygit2.init_repository(".")
    (tmp_path / ".dvc").mkdir()
    write()


def write(**changes) -> None:
    """Write params.yaml: the digits preset with some keys of its sections changed."""
    params = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else changes.get(key, value)
              for key, value in DIGITS.items()}  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params))


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of ``ddpm check``, and its stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--no-pilot"])
    return ended.value.code, capsys.readouterr().err


def download(name: str, source: str | None) -> None:
    """Make dvc.lock and data/raw look as after the download stage."""
    params = {"data.dataset": {"name": name}, "data.source": source}
    stage = {"cmd": "python -m stages download", "params": {"params.yaml": params}}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"download": stage}}))
    Path("data/raw").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("source", "code", "words", "dataset"),
    [
        (None, 0, "", "mnist"),
        ("nowhere", 2, "'nowhere'", "mnist"),
        (".dvc", 0, "", "mnist"),
        ("https://example.org/m", 0, "", "mnist"),
        ("https://me:hunter2@example.org/m", 2, "https://***@example", "mnist"),
        (None, 2, "data.source: null", "arrays"),
        (".dvc", 2, "data.dataset.name: image_folder", "digits"),
    ],
)
def test_the_source_of_images_that_are_not_here_has_to_be_there(source, code, words, dataset, capsys):
    write(data={"dataset": {"name": dataset}, "source": source})
    ended, told = check(capsys)
    assert (ended, bool(told)) == (code, bool(words))
    assert words in told
    assert "hunter2" not in told


def test_images_of_another_source_are_not_those_of_params_yaml(capsys):
    download("image_folder", "mine")
    write(data={"dataset": FOLDER, "source": "mine"})
    assert check(capsys) == (0, "")  # although the folder is gone: data/raw has its images
    write(data={"dataset": FOLDER, "source": "nowhere"})
    code, told = check(capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert told.startswith("error: data.source: ")
    pictures("nowhere", 1500)
    assert check(capsys) == (0, "")


def pictures(folder: str, count: int) -> None:
    """Names of pictures suffice, as long as nobody opens them."""
    Path(folder).mkdir()
    for number in range(count):
        Path(folder, f"{number}.png").touch()


def test_images_are_counted_where_they_are_and_other_files_are_named(capsys):
    write(data={"dataset": FOLDER, "source": "mine", "test_fraction": 0.1})
    pictures("mine", 1500)
    for name in ("a.HEIC", "b.heic", "notes.txt", "README", ".DS_Store"):
        Path("mine", name).touch()
    capsys.readouterr()
    assert run("check", "--no-pilot") == 0
    output = capsys.readouterr()
    line, _ = output.out.splitlines()
    assert all(part in line for part in ("mine", "1,500", "1,350"))
    assert clone.look(config.load().data)[:2] == (1350, 1)
    (line,) = (output.err + capsys.readouterr().err).splitlines()  # once, though two looked
    assert all(part in line for part in ("mine", "2 .heic", "1 .txt"))


@pytest.mark.parametrize("lock", [None, "", "stages: []", "stages: {download: {}}", "{"])
def test_without_a_record_of_the_download_the_source_is_looked_for(lock):
    write(data={"dataset": FOLDER, "source": "nowhere"})
    if lock is not None:
        Path("dvc.lock").write_text(lock)
    Path("data/raw").mkdir(parents=True)
    assert not clone.is_fetched()


@pytest.mark.parametrize("folder", [".git", ".dvc"])
def test_outside_a_clone_the_repository_is_missing(capsys, folder):
    shutil.rmtree(folder)
    code, told = check(capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert f"{folder.removeprefix('.')} repository" in told.lower()


def test_a_head_on_no_branch_is_told_and_not_refused(capsys):
    """As after a ``dvc exp run`` that was killed."""
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "one")
    assert check(capsys) == (0, "")
    git("checkout", "--quiet", "--detach")
    code, told = check(capsys)
    assert (code, told.partition(":")[0]) == (0, "note")
    assert "git checkout -" in told
    git("checkout", "-")
    assert check(capsys) == (0, "")


LOCKED = """schema: '2.0'
stages:
  a:
    cmd: make a
    deps:
    - path: b
      md5: 0cc175b9c0f1b6a831c399e269772661
"""
CONFLICT = LOCKED.replace("stages:", "<<<<<<< HEAD\nstages:")


@pytest.mark.parametrize(
    ("name", "whole", "halves"),
    [
        ("dvc.lock", LOCKED, ["", LOCKED[:11], LOCKED[: LOCKED.index(": b")], CONFLICT]),
        (".dvc/tmp/rwlock", '{"read": {"a": []}}', ["", '{"read": {"a"']),
    ],
)
def test_half_a_file_of_dvcs_is_told_with_what_to_remove(capsys, name, whole, halves):
    Path("dvc.yaml").write_text("stages: {a: {cmd: make a}}")
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(whole)
    assert check(capsys) == (0, "")
    for half in halves:
        path.write_text(half)
        code, told = check(capsys)
        assert (code, told.count("\n")) == (2, 1)
        assert f"`rm {name}`" in told


def test_dvc_s_pickles_are_in_a_folder_of_this_user_alone(monkeypatch, capsys):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    shutil.copy(ROOT / ".dvc/config", ".dvc/config")
    assert check(capsys) == (0, "")
    assert list(SITE_CACHE.glob("repo/*/links"))
    assert stat.S_IMODE(SITE_CACHE.stat().st_mode) == stat.S_IRWXU
    SITE_CACHE.chmod(0o777)
    close_site_cache()  # as the check stage does
    assert stat.S_IMODE(SITE_CACHE.stat().st_mode) == stat.S_IRWXU


@pytest.fixture
def site(monkeypatch):
    """DVC's place for pickles, where others come; pytest's folders are in one where they do not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "site/mine/repo").mkdir(parents=True)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", f"{folder}/site/mine")
        yield Path(folder) / "site"


@pytest.mark.parametrize(
    ("mode", "code", "name"), [(0o777, 2, ""), (0o777, 2, "mine/repo"), (0o1777, 0, "mine"), (0o755, 0, "mine/repo")]
)
def test_pickles_where_others_may_write_are_refused(site, mode, code, name, capsys):
    (site / name).chmod(mode)
    ended, told = check(capsys)
    assert ended == code
    assert not code or str(site / name) in told


def test_pickles_of_somebody_else_are_refused(site, monkeypatch, capsys):
    assert check(capsys) == (0, "")
    [cache] = site.glob("mine/repo/*")
    if os.getuid():
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    else:
        os.chown(cache / "links", 12345, 12345)
    code, told = check(capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert str(site) in told


def test_make_says_that_the_environment_is_another_folder_s(tmp_path):
    """Its scripts name the place where it was made: after a move each would be `No such file`."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(Path(__file__).parents[2] / name, tmp_path)
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    for place, code in {tmp_path / ".venv": 0, "/old/place/.venv": 2}.items():
        activate.write_text(f"VIRTUAL_ENV={place}\n")
        done = subprocess.run(["make", "--dry-run", "setup"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, "rm -r .venv" in done.stderr) == (code, code > 0)


def test_make_shows_how_the_setup_proceeds_and_completes_the_run_before_the_browser_shows_it():
    setup, ui = (
        subprocess.check_output(["make", "--dry-run", "--assume-new=pyproject.toml", *target], cwd=ROOT, text=True)
        for target in (["setup", "UV="], ["ui"])
    )
    (install,) = (line for line in setup.splitlines() if "pip install" in line)
    assert "--quiet" not in install
    assert "5.8 GB" in setup
    assert -1 < ui.find("ddpm track sync") < ui.find("mlflow ui")
