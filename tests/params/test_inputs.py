"""The inputs of a stage, as DVC sees them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("file", "text", "matters"),
    [
        ("code.py", "other code", True),
        ("cosine.py", "other code", True),
        ("folder/new", "one more file in a folder", True),
        ("params.yaml", PARAMS.replace("seed: 1", "seed: 2"), True),
        ("params.yaml", PARAMS.replace("cosine", "linear"), True),
        ("params.yaml", PARAMS.replace("other: 2", "other: 3").replace("unused: 3", "unused: 4"), False),
        ("stranger.py", "other code", False),
        ("ddpm/base/files.py", "a = 2", False),
    ],
)
def test_the_fingerprint_changes_with_what_is_listed_and_with_nothing_else(file, text, matters):
    before = start("make").fingerprint()
    Path(file).write_text(text)
    assert (start("make").fingerprint() != before) == matters


@pytest.mark.parametrize(
    ("text", "matters"),
    [("# why\n\na  =  1", False), ("a = 1\n# b = 2", False), ("a = 2", True), ("a = (1)", False)],
)
def test_code_is_other_code_unless_only_comments_and_blanks_differ(text, matters):
    before = start("make").code()
    assert list(before) == ["ddpm/base/files.py"]
    Path("ddpm/base/files.py").write_text(text)
    assert (start("make").code() != before) == matters


def test_a_missing_dependency_is_named():
    Path("code.py").unlink()
    with pytest.raises(UserError, match=r"code\.py: no such file"):
        start("make")


@pytest.mark.parametrize(("old", "new", "line"), [
    ("seed: 1", "seed: 9", "seed was 1"), ("seed: 1", "seed: 1.0", "is 1.0 now"), ("seed: 1", "", "is None now"),
    ("seed: 1", "seed: [", "params.yaml: not valid YAML"), ("1.0e-3", "2.0e-3", "other.deep.rate was 0.001"),
    ("[1, 2]", "[1, 3]", "other.deep.sizes was [1, 2]"), ("off", "false", "other.word was 'off'"),
    (", word: off", "", "is absent now"),
])  # fmt: skip
def test_a_param_that_changes_while_a_stage_runs_is_named(old, new, line):
    Path("params.yaml").write_text(NESTED)
    started = start("see")
    started.refuse_changes()
    Path("params.yaml").write_text(NESTED.replace(old, new))
    with pytest.raises(UserError, match=re.escape(line)):
        started.refuse_changes()


@pytest.mark.parametrize("file", ["code.py", "folder/new", "cosine.py"])
def test_a_file_that_changes_while_a_stage_runs_is_named(file):
    started = start("make")
    Path(file).unlink() if file == "cosine.py" else Path(file).write_text("other code")
    with pytest.raises(UserError, match=f"{file.partition('/')[0]}: changed"):
        started.refuse_changes()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("params.yaml", f"# a comment\n{PARAMS}"),
        # not a param of this stage: at the start it read the file that DVC had chosen by it
        ("params.yaml", PARAMS.replace("cosine", "linear")),
        ("linear.py", "a variant that is not chosen"),
    ],
)
def test_what_a_stage_does_not_read_may_change_while_it_runs(file, text):
    started = start("see")
    Path(file).write_text(text)
    started.refuse_changes()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), plain, max_size=4), st.dictionaries(st.text(), st.text(), max_size=3))
def test_every_rank_gets_the_very_start_of_its_launcher(params, digests):
    started = Start("train", params, params, digests)
    passed = Start.from_json(started.to_json())
    assert repr(passed) == repr(started)  # 1, 1.0 and True are equal
    assert passed.fingerprint() == started.fingerprint()
