"""The inputs of a stage, as DVC sees them."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.params import file as params_file
from ddpm.params import inputs
from ddpm.params.inputs import Start

DVC_YAML = """
stages:
  make:
    cmd: make
    params: [seed, schedule.name]
    deps: [code.py, "${schedule.name}.py", folder, ddpm/base]
  use:
    cmd: use
    params: [seed]
    deps: [folder/made, code.py]
  see:
    cmd: see
    params: [seed, other]
    deps: ["${schedule.name}.py"]
"""
PARAMS = "seed: 1\nother: 2\nschedule: {name: cosine, unused: 3}\n"
NESTED = "seed: 1\nother: {deep: {rate: 1.0e-3, sizes: [1, 2]}, word: off}\nschedule: {name: cosine}\n"


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    (folder / "folder").mkdir()
    (folder / "ddpm/base").mkdir(parents=True)
    (folder / "ddpm/base/files.py").write_text("a = 1")
    content = {"dvc.yaml": DVC_YAML, "params.yaml": PARAMS, "code.py": "1", "cosine.py": "2", "folder/made": "3"}
    for name, text in {**content, "linear.py": "4", "stranger.py": "5"}.items():
        (folder / name).write_text(text)


def start(stage: str) -> Start:
    return inputs.read_inputs(stage, params_file.read_params())


def test_what_is_read_is_what_is_listed():
    started = start("make")
    assert started.keys == {"seed": 1, "schedule.name": "cosine"}
    assert list(started.digests) == ["code.py", "cosine.py", "folder", "ddpm/base"]


OTHERS = PARAMS.replace("other: 2", "other: 3").replace("unused: 3", "unused: 4")


@pytest.mark.parametrize(("file", "text", "named", "matters"), [
    ("code.py", "other code", "code.py", True), ("cosine.py", "other code", "cosine.py", True),
    ("cosine.py", None, "cosine.py", True), ("folder/new", "one more file in a folder", "folder", True),
    ("params.yaml", PARAMS.replace("seed: 1", "seed: 2"), "seed", True),
    ("params.yaml", PARAMS.replace("cosine", "linear"), "schedule.name", True),
    ("ddpm/base/files.py", "a = 2", "ddpm/base", False), ("params.yaml", f"# a comment\n{OTHERS}", None, False),
    ("stranger.py", "other code", None, False), ("linear.py", "a variant that is not chosen", None, False),
])  # fmt: skip
def test_what_is_listed_decides_the_fingerprint_and_may_not_change_while_the_stage_runs(file, text, named, matters):
    """The fingerprint is of data and params: code of the project may change between two runs."""
    started = start("make")
    started.refuse_changes()
    Path(file).write_text(text) if text else Path(file).unlink()
    if text:
        assert (start("make").fingerprint() != started.fingerprint()) == matters
    with pytest.raises(UserError, match=named) if named else nullcontext():
        started.refuse_changes()


def test_a_param_that_a_stage_does_not_read_may_change_though_it_chose_one_of_its_files():
    started = start("see")
    Path("params.yaml").write_text(PARAMS.replace("cosine", "linear"))
    started.refuse_changes()


EDITS = [("# why\n\na  =  1", False), ("a = 1\n# b = 2", False), ("a = 2", True), ("a = (1)", False)]


@pytest.mark.parametrize(("text", "matters"), EDITS)
def test_code_is_other_code_unless_only_comments_and_blanks_differ(text, matters):
    before = start("make").code()
    assert list(before) == ["ddpm/base/files.py"]
    Path("ddpm/base/files.py").write_text(text)
    assert (start("make").code() != before) == matters


def test_a_missing_dependency_is_named():
    Path("code.py").unlink()
    with pytest.raises(UserError, match=r"code\.py: no such file"):
        start("make")


@pytest.mark.parametrize(("old", "new", "key"), [
    ("seed: 1", "seed: 9", "seed"), ("seed: 1", "seed: 1.0", "seed"), ("seed: 1", "", "seed"),
    ("seed: 1", "seed: [", "not valid YAML"), ("1.0e-3", "2.0e-3", "other"), ("[1, 2]", "[1, 3]", "other"),
    ("off", "false", "other"), (", word: off", "", "other"),
])  # fmt: skip
def test_a_param_that_changes_while_a_stage_runs_is_named(old, new, key):
    Path("params.yaml").write_text(NESTED)
    started = start("see")
    started.refuse_changes()
    Path("params.yaml").write_text(NESTED.replace(old, new))
    with pytest.raises(UserError, match=f"params.yaml: {key}"):
        started.refuse_changes()


def test_every_rank_gets_the_very_start_of_its_launcher():
    params = {"seed": 1, "rate": 1.0, "on": True, "none": None, "nested": {"é": [1e-300, -0.0, "2"]}}
    started = Start("train", params, params, {"code.py": "0" * 64})
    passed = Start(*json.loads(json.dumps(started)))
    assert repr(passed) == repr(started)  # 1, 1.0 and True are equal
    assert passed.fingerprint() == started.fingerprint()
