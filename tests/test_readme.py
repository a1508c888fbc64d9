"""The README says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ddpm import catalogue, variants
from ddpm.cli import preset_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize(("key", "family"), catalogue.SHELVES.items())
def test_every_variant_is_listed(key: str, family: str) -> None:
    assert f"| {key} | ddpm/{family}/ | {', '.join(variants.names(family))} |" in TEXT


def test_the_table_of_combinations_is_the_generated_one() -> None:
    assert catalogue.combinations_table() in TEXT


def test_every_preset_has_its_row() -> None:
    assert all(f"\n| {name} |" in TEXT for name in preset_names())


def test_pictures_and_files_that_are_named_exist() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", TEXT)
    assert pictures
    assert all((ROOT / picture).is_file() for picture in pictures)
