"""YAML read in parts equals what PyYAML reads in one go, whatever it looks like."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ddpm.base.errors import UserError
from ddpm.compare import block_yaml
from ddpm.compare.block_yaml import Reader
from ddpm.params import file
from ddpm.params.inputs import as_text

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "dvc.lock", ROOT / "dvc.yaml", ROOT / "params.yaml", *sorted((ROOT / "ddpm/presets").glob("*.yaml"))]

EDITS = ["", "<<<<<<< HEAD\n", "# a comment\n", "\n", "  deeper: 1\n", "\tx\n", "- a\n", "a: &x 1\nb: *x\n", "---\n",
         "...\n", "seed: 'two\nlines: 3'\n", "text: |\n  a: 1\n   b\n", "%YAML 1.2\n", "{a: 1}\n",
         "? a\n: b\n"]  # fmt: skip

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(
    ["a: b", "- a", "# no comment", "line\nbelow", "  deep: er\n", "'", '"', "x" * 100, "{", "&a", "*a", "---"]
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text("ab/._- :#", max_size=4), inner, max_size=7),
    max_leaves=40,
)


def whole(text: str, reader: Reader) -> Any:
    """What the reader makes of the whole text, or that it refuses it."""
    try:
        return reader(text)
    except (yaml.YAMLError, YAMLError, UserError, ArithmeticError, LookupError, TypeError, ValueError):
        return None


def in_parts(text: str, reader: Reader) -> Any:
    return whole(text, partial(block_yaml.read, reader=reader))


def same(text: str) -> bool:
    """For the readers of a dvc.lock and of a params.yaml; by repr, which tells nan from None and 1 from True."""
    return all(repr(in_parts(text, reader)) == repr(whole(text, reader)) for reader in (as_text, file.plain))


def as_dvc(value: Any) -> str:
    out = io.StringIO()
    YAML().dump(value, out)
    return out.getvalue()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_project_s_own_files(path: Path) -> None:
    text = path.read_text()
    assert same(text)
    assert isinstance(in_parts(text, file.plain), dict)


@given(values, st.sampled_from([{}, {"indent": 4}, {"default_flow_style": True}, {"width": 20}]))
def test_what_pyyaml_and_dvc_write(value: Any, style: dict[str, Any]) -> None:
    for text in (yaml.safe_dump(value, **style), as_dvc(value)):
        assert same(text)


@given(st.sampled_from(FILES[:1] + FILES[2:4]), st.data())
def test_files_that_were_torn_or_edited(path: Path, data: st.DataObject) -> None:
    lines = path.read_text().splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        added = data.draw(st.sampled_from(EDITS))
        lines[place : place + data.draw(st.integers(0, 2))] = [added]
    text = "".join(lines)[: data.draw(st.integers(0, 40_000))]
    assert same(text)


@given(st.text(st.sampled_from("ab: -\n#'\"&*|>{}[],"), max_size=60))
def test_any_text(text: str) -> None:
    assert same(text)


def test_what_files_share_is_parsed_once() -> None:
    text = (ROOT / "dvc.lock").read_text()
    parsed: list[str] = []

    def reader(part: str) -> Any:
        parsed.append(part)
        return as_text(part)

    block_yaml.read(text, reader)
    parsed.clear()
    block_yaml.read(text.replace("        seed: 0\n", "        seed: 123\n"), reader)
    # and the keys of the blocks around it
    assert [part for part in parsed if not part.endswith(":")] == ["        seed: 123\n"]
