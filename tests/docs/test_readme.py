"""The README, the tables that it links to, the tutorial and the example in one file describe what the code does."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from ddpm.base import variant
from ddpm.cli.app import app
from ddpm.params import presets
from ddpm.params.config import FAMILIES
from docs import make_alike

ROOT = Path(__file__).parents[2]
TEXT, VARIANTS, RESULTS = ((ROOT / name).read_text() for name in ("README.md", "docs/variants.md", "docs/results.md"))


@pytest.mark.parametrize(("key", "family"), FAMILIES.items())
def test_every_variant_is_listed(key, family):
    assert f"| {key} | ddpm/variants/{family}/ | {', '.join(variant.names(family))} |" in VARIANTS


def test_every_preset_has_its_row():
    assert all(f"\n| {name} |" in RESULTS for name in presets.names())


def test_what_compared_runs_share_is_listed():
    assert make_alike.table().strip() in (ROOT / "docs/concepts.md").read_text(), "run `python -m docs.make_alike`"


def test_every_command_is_named():
    commands = [name for name in app if not name.startswith("-")]
    assert len(commands) > 10
    assert [name for name in commands if f"`ddpm {name}" not in TEXT] == []


def test_a_release_has_one_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.search(rf"^## {version}$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_everything_that_the_tutorial_imports_and_asks_of_that_is_there():
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/tutorial.md").read_text(), re.S | re.M)
    nodes, scope = [node for block in blocks for node in ast.walk(ast.parse(block))], dict[str, object]()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), scope)  # noqa: S102
    asked = [node for node in nodes if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in scope]
    assert len(asked) > 10
    assert [ast.unparse(node) for node in asked if not hasattr(scope[node.value.id], node.attr)] == []


@pytest.mark.slow
def test_the_one_file_example_draws_a_grid(tmp_path):
    command = [sys.executable, ROOT / "examples/ddpm_in_one_file.py", "--steps", "3", "--out", tmp_path / "digits.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"16 new digits: {tmp_path / 'digits.png'}\n"
    with Image.open(tmp_path / "digits.png") as picture:
        assert len(picture.convert("L").getcolors()) > 100
