"""What a stage reads, as DVC sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm import inputs
from ddpm.errors import UserError

DVC_YAML = """
stages:
  make:
    cmd: make
    params: [seed, schedule.name]
    deps: [code.py, "${schedule.name}.py", folder]
  use:
    cmd: use
    params: [seed]
    deps: [folder/made, code.py]
"""
PARAMS = "seed: 1\nother: 2\nschedule: {name: cosine, unused: 3}\n"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    content = {"dvc.yaml": DVC_YAML, "params.yaml": PARAMS, "code.py": "1", "cosine.py": "2", "folder/made": "3"}
    for name, text in {**content, "linear.py": "4", "stranger.py": "5"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_names_in_paths_are_filled_from_params() -> None:
    keys, deps = inputs.stage("make", {"schedule": {"name": "linear"}})
    assert keys == ["seed", "schedule.name"]
    assert deps == ["code.py", "linear.py", "folder"]


def test_what_is_read_is_what_is_listed() -> None:
    found = inputs.read("make")
    assert found.params == {"seed": 1, "schedule.name": "cosine"}
    assert list(found.files) == ["code.py", "cosine.py", "folder"]


@pytest.mark.parametrize(
    ("file", "text", "matters"),
    [
        ("code.py", "other code", True),
        ("cosine.py", "other code", True),
        ("folder/new", "one more file in a folder", True),
        ("params.yaml", PARAMS.replace("seed: 1", "seed: 2"), True),
        ("params.yaml", PARAMS.replace("cosine", "linear"), True),
        ("params.yaml", PARAMS.replace("other: 2", "other: 3").replace("unused: 3", "unused: 4"), False),
        ("params.yaml", f"# a comment\n{PARAMS}", False),
        ("linear.py", "a variant that is not chosen", False),
        ("stranger.py", "other code", False),
    ],
)
def test_the_fingerprint_changes_with_what_is_listed_and_with_nothing_else(file: str, text: str, matters: bool) -> None:
    before = inputs.read("make").fingerprint()
    Path(file).write_text(text)
    assert (inputs.read("make").fingerprint() != before) == matters


def test_several_stages_less_what_they_make_themselves() -> None:
    found = inputs.read("make", "use", leave_out=("folder/made",))
    assert found.params == {"seed": 1, "schedule.name": "cosine"}
    assert list(found.files) == ["code.py", "cosine.py", "folder"]


def test_a_missing_dependency_is_named() -> None:
    Path("code.py").unlink()
    with pytest.raises(UserError, match=r"code\.py: no such file; make needs it"):
        inputs.read("make")


@pytest.mark.parametrize(
    ("key", "value"), [("a", {"b": {"c": 1}}), ("a.b.c", 1), ("a.x", None), ("a.b.c.d", None), ("x.y", None)]
)
def test_lookup(key: str, value: object) -> None:
    assert inputs.lookup({"a": {"b": {"c": 1}}}, key) == value
