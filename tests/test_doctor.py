"""``ddpm doctor``: what is there, what is missing, how to get it, and the exit code for each."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygit2
import pytest
import torch
import yaml

import ddpm
from ddpm.params import file
from ddpm.tools import doctor
from ddpm.tracking.store import Store
from tests import command
from tests.scored import git

PRESETS = Path(ddpm.__file__).parent / "presets"
DIGITS = file.read(PRESETS / "digits.yaml")


@pytest.fixture(autouse=True)
def _in_a_clone(folder, monkeypatch) -> None:
    """A folder with git, DVC and the digits preset, nothing run yet, and an empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))
    monkeypatch.setattr(doctor, "packages", lambda: doctor.Finding("packages", "ok", "all"))
    pygit2.init_repository(".")
    (folder / ".dvc").mkdir()
    write()


def write(**changes: Any) -> None:
    """Write params.yaml: the digits preset with some keys of its sections changed."""
    params = {key: {**value, **changes.get(key, {})} if isinstance(value, dict) else changes.get(key, value)
              for key, value in DIGITS.items()}  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(params))


def run(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and the findings by topic."""
    code = command.run("doctor", "--json", *options)
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] == (code == 0)
    topics: dict[str, list[dict[str, str]]] = {}
    for finding in answer["findings"]:
        topics.setdefault(finding["topic"], []).append(finding)
    return code, topics


def states(found: list[dict[str, str]]) -> list[str]:
    return [each["state"] for each in found]


def test_a_fresh_clone_lacks_nothing(capsys):
    code, topics = run(capsys, "--offline")
    assert code == 0, topics
    assert topics.keys() >= {"packages", "git", "dvc", "repository", "device", "model", "mlflow"}
    assert topics["dataset"][0]["detail"] == "digits comes with a package"
    assert not Path("mlflow.db").exists()


def test_the_listing_ends_in_what_is_missing(capsys):
    write(data={"dataset": {"name": "image_folder"}})
    assert command.run("doctor") == 1
    assert capsys.readouterr().out.endswith("\nmissing: dataset\n")


MNIST = {"name": "mnist"}
WEIGHTS = Path("torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth")


@pytest.mark.parametrize(
    ("changes", "topic", "state", "words"),
    [
        ({"data": {"dataset": MNIST}}, "dataset", "fetch", "mnist from http"),
        ({"data": {"dataset": MNIST, "source": "nowhere"}}, "dataset", "missing", "no such file or folder 'nowhere'"),
        ({"data": {"dataset": MNIST, "source": "torch"}}, "dataset", "ok", "mnist in torch"),
        ({"data": {"dataset": MNIST, "source": "https://example.org/m"}}, "dataset", "fetch", "https://example.org/m"),
        ({"data": {"dataset": MNIST, "source": "https://me:secret@example.org/m"}}, "dataset", "missing",
         "https://***@example"),
        ({"data": {"image_size": 18}}, "device", "missing", "must be a multiple of 4"),
        ({"seed": -1}, "params", "missing", "params.yaml: seed: -1 is not allowed"),
        ({"evaluate": {"extractors": ["classifier", "inception"]}}, "weights", "missing", "damaged"),
        pytest.param({"device": "cuda"}, "device", "missing", "cuda",
                     marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")),
    ],
)  # fmt: skip
def test_what_params_need_is_here_or_not(capsys, changes, topic, state, words):
    WEIGHTS.parent.mkdir(parents=True)
    WEIGHTS.write_bytes(b"half of it")
    write(**changes)
    code, topics = run(capsys)
    last = topics[topic][-1]
    assert (code, last["state"]) == (state == "missing", state)
    assert words in last["detail"] + last["fix"]
    assert topic != "params" or "device" not in topics  # nothing more can be looked at


def test_offline_what_would_be_downloaded_is_missing(capsys):
    write(data={"dataset": {"name": "cifar10"}}, evaluate={"extractors": ["inception"]})
    code, topics = run(capsys)
    assert (code, states(topics["dataset"]), states(topics["weights"])) == (0, ["fetch"], ["fetch"])
    assert run(capsys, "--offline")[0] == 1


def test_images_that_were_made_are_counted_and_others_are_said(digits, capsys):
    shutil.copytree(digits, "data/processed")
    download("digits", None)
    assert run(capsys)[1]["dataset"][0]["detail"] == "data/processed: digits 16x16x1, 1,438 train, 359 test images"
    write(data={"image_size": 32})
    assert run(capsys)[1]["dataset"][0]["detail"] == "digits comes with a package"


def download(name: str, source: str | None) -> None:
    """Make dvc.lock and data/raw look as after the download stage."""
    params = {"data.dataset": {"name": name}, "data.source": source}
    stage = {"cmd": "python -m stages download", "params": {"params.yaml": params}}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"download": stage}}))
    Path("data/raw").mkdir(parents=True, exist_ok=True)


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of ``ddpm check``, and its stderr."""
    return command.run("check", "--no-pilot"), capsys.readouterr().err


def test_images_of_another_source_are_not_those_of_params_yaml(digits, capsys):
    shutil.copytree(digits, "data/processed")
    manifest = json.loads(Path("data/processed/manifest.json").read_text())
    Path("data/processed/manifest.json").write_text(json.dumps(manifest | {"dataset": "image_folder"}))
    download("image_folder", "mine")
    write(data={"dataset": {"name": "image_folder"}, "source": "mine"})
    assert states(run(capsys)[1]["dataset"]) == ["ok"]  # although the folder is gone: data/raw has its images
    assert check(capsys) == (0, "")

    write(data={"dataset": {"name": "image_folder"}, "source": "nowhere"})
    code, topics = run(capsys)
    assert (code, states(topics["dataset"])) == (1, ["missing"])
    assert check(capsys)[1].startswith("error: data.source: no such file or folder 'nowhere'")

    Path("nowhere").mkdir()
    assert states(run(capsys)[1]["dataset"]) == ["ok"]
    assert check(capsys) == (0, "")


@pytest.mark.parametrize("lock", [None, "", "stages: []", "stages: {download: {}}", "{"])
def test_without_a_record_of_the_download_the_source_is_looked_for(lock, capsys):
    write(data={"dataset": {"name": "image_folder"}, "source": "nowhere"})
    if lock is not None:
        Path("dvc.lock").write_text(lock)
    Path("data/raw").mkdir(parents=True)
    assert states(run(capsys)[1]["dataset"]) == ["missing"]


def test_a_fresh_clone_has_a_record_but_no_images(capsys):
    download("image_folder", "nowhere")
    Path("data/raw").rmdir()
    for source in ("nowhere", None):
        write(data={"dataset": {"name": "image_folder"}, "source": source})
        code, told = check(capsys)
        assert (code, told.partition(": ")[2][:12]) == (2, "data.source:")


@pytest.mark.parametrize("place", [".git", ".dvc"])
def test_outside_a_clone_the_repository_is_missing(capsys, place):
    shutil.rmtree(place)
    code, topics = run(capsys)
    assert code == 1
    assert topics["repository"][0]["detail"] == f"no {place} here or above"
    assert check(capsys)[0] == 2
    Path(place).mkdir()
    if place == ".git":
        assert "is not a git repository" in run(capsys)[1]["repository"][0]["detail"]


def test_a_head_on_no_branch_is_told_and_not_refused(capsys):
    """As after a ``dvc exp run`` that was killed."""
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "one")
    assert check(capsys) == (0, "")
    git("checkout", "--quiet", "--detach")
    code, told = check(capsys)
    assert (code, told.partition(":")[0]) == (0, "note")
    assert "git checkout -" in doctor.branch().fix
    git("checkout", "-")
    assert doctor.branch().state == "ok"


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
    ("file", "whole", "halves"),
    [
        ("dvc.lock", LOCKED, ["", LOCKED[:11], LOCKED[: LOCKED.index(": b")], CONFLICT]),
        (".dvc/tmp/rwlock", '{"read": {"a": []}}', ["", '{"read": {"a"']),
    ],
)
def test_half_a_file_of_dvcs_is_told_with_what_to_remove(capsys, file, whole, halves):
    Path("dvc.yaml").write_text("stages: {a: {cmd: make a}}")
    path = Path(file)
    path.parent.mkdir(exist_ok=True)
    path.write_text(whole)
    assert states(run(capsys)[1]["repository"]) == ["ok"]
    for half in halves:
        path.write_text(half)
        code, topics = run(capsys)
        assert code == 1
        assert file in topics["repository"][0]["detail"]
        assert f"`rm {file}`" in topics["repository"][0]["fix"]
        assert check(capsys)[1].partition("`")[2].startswith(f"rm {file}`")


def test_a_program_that_is_not_there_is_missing(capsys, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    code, topics = run(capsys)
    assert (code, states(topics["git"]), states(topics["dvc"])) == (1, ["missing"], ["missing"])


def test_tracking_that_is_off_or_down_ends_nothing(capsys, monkeypatch):
    monkeypatch.setenv("DDPM_TRACKING", "off")
    assert states(run(capsys)[1]["mlflow"]) == ["note"]
    monkeypatch.delenv("DDPM_TRACKING")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    code, topics = run(capsys)
    assert (code, states(topics["mlflow"])) == (0, ["note"])
    assert "secret" not in topics["mlflow"][0]["detail"]


@pytest.mark.slow
def test_a_store_of_another_version_of_mlflow_is_said_with_the_way_to_upgrade_it(folder, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/made.db")
    Store().experiment  # noqa: B018 (makes the database)
    assert states(run(capsys)[1]["mlflow"]) == ["ok"]
    with sqlite3.connect("made.db") as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    Path("made.db").rename("mlflow.db")  # a process looks at a database's version once
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, topics = run(capsys)
    assert (code, states(topics["mlflow"])) == (0, ["note"])
    assert "out-of-date database schema" in topics["mlflow"][0]["detail"]
    Path("mlflow.db").write_text("half of it, as of a broken copy")
    assert "file is not a database" in run(capsys)[1]["mlflow"][0]["detail"]


@pytest.mark.parametrize("name", ["python", "dvc"])
def test_another_environment_that_comes_first_in_path_is_said(name, capsys, monkeypatch):
    """As when .venv is not active: stages would run without the packages, or with others."""
    other = Path("elsewhere", name)
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent.resolve()}{os.pathsep}{os.environ['PATH']}")
    code, topics = run(capsys)
    assert (code, states(topics[name])) == (1, ["missing"])
    assert "comes first in PATH" in topics[name][0]["detail"]
    assert "`source .venv/bin/activate`" in topics[name][0]["fix"]


def test_a_clone_of_another_user_is_said(capsys, monkeypatch):
    """As in a container. git has a variable that makes it take each folder for another user's."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    code, topics = run(capsys)
    assert (code, states(topics["folder"])) == (1, ["missing"])
    assert f"`git config --global --add safe.directory {Path.cwd()}`" in topics["folder"][0]["fix"]


@pytest.mark.parametrize(
    ("refused", "topic", "words"),
    [
        (["data/model", "metrics"], "folder", "data/model, metrics cannot be written"),
        (["."], "folder", ". cannot be written"),
        ([".dvc"], "repository", ".dvc/cache/files/md5 cannot be read and written"),
    ],
)
def test_folders_that_cannot_be_written_are_missing(refused, topic, words, capsys, monkeypatch):
    """Those that root made in a container, or a cache on a disk that is not mounted. Tests may run as root, who may
    write everywhere."""
    for name in ("data/model", "metrics"):
        Path(name).mkdir(parents=True)
    assert "folder" not in run(capsys)[1]
    paths = {Path(name).resolve() for name in refused}
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: Path(path).resolve() not in paths)
    code, topics = run(capsys)
    assert (code, states(topics[topic])) == (1, ["missing"])
    assert topics[topic][0]["detail"].endswith(words)


@pytest.mark.parametrize(
    ("cuda", "words", "fix"),
    [
        ("12.8", "torch for CUDA 12.8, which it does not run", "update the driver"),
        (None, "torch without CUDA", "install"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_driver_that_torch_cannot_use_is_said(cuda, words, fix, capsys, monkeypatch):
    which = shutil.which
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/driver" if name == "nvidia-smi" else which(name))
    monkeypatch.setattr(torch.version, "cuda", cuda)
    code, topics = run(capsys)
    assert (code, states(topics["device"])) == (0, ["ok", "note"])
    assert words in topics["device"][1]["detail"]
    assert topics["device"][1]["fix"].startswith(fix)


REAL_PACKAGES: Callable[[], doctor.Finding] = doctor.packages


@pytest.mark.parametrize(
    ("requirements", "state", "words"),
    [
        (["torch>=2.6,<3", "no-such-package>=1; extra == 'kaggle'"], "ok", ["python 3", "torch "]),
        (["torch<2", "no-such-package>=1"], "missing", ["requirement torch<2", "no-such-package, which is not"]),
    ],
)
def test_packages_are_held_to_what_the_project_asks_for(tmp_path, monkeypatch, requirements, state, words):
    described = tmp_path / "installed/ddpm-1.dist-info/METADATA"
    described.parent.mkdir(parents=True)
    asked = "".join(f"Requires-Dist: {requirement}\n" for requirement in requirements)
    described.write_text(f"Metadata-Version: 2.1\nName: ddpm\nVersion: 1\n{asked}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    found = REAL_PACKAGES()
    assert found.state == state
    assert all(each in found.detail for each in words)


def test_names_from_outside_cannot_steer_the_terminal():
    assert "a\\x1b[31mred line" in doctor.listing([doctor.Finding("dataset", "ok", "a\x1b[31mred\nline")])
