"""The README, and the tables that it links to, describe what the code does."""

import re
import tomllib
from pathlib import Path

import pytest

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
