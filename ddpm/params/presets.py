"""Presets: ``digits`` is a complete params file; every other holds its own header and what it changes in ``digits``, in
the preset that its key ``base`` names, or in another that it is put on."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from io import StringIO
from itertools import dropwhile, takewhile
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from ddpm.base import variant
from ddpm.base.errors import UserError

BASE = "digits"
FOLDER = resources.files("ddpm.presets")


class Spelled(RoundTripRepresenter):
    """Writes ``null``, which ruamel.yaml leaves empty. A class of its own, because DVC uses the other."""


Spelled.add_representer(type(None), lambda self, _: self.represent_scalar("tag:yaml.org,2002:null", "null"))


def names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in FOLDER.iterdir())


def text(name: str, on: str | None = None) -> str:
    """The complete params file, with its own header and the base's comments. Raises UserError for an unknown name.

    on: a preset to put it on, in place of its base.
    """
    if name not in names():
        hint = variant.closest(name, names())
        raise UserError(f"preset: unknown {name!r}{hint}; allowed: {', '.join(names())}")
    written = (FOLDER / f"{name}.yaml").read_text()
    if name == BASE and on in {None, BASE}:
        return written
    changes = YAML().load(written)
    base = changes.pop("base", BASE)
    changed = edited(text(on or base), lambda whole: _change(whole, changes))
    header = [*takewhile(_comment, written.splitlines(keepends=True)), *([f"# Put on: {on}.\n"] if on else [])]
    return "".join([*header, *dropwhile(_comment, changed.splitlines(keepends=True))])


def edited(base: str, change: Callable[[Any], None]) -> str:
    """The text of a params file after a change of its values, with its comments."""
    round_trip = YAML()
    round_trip.Representer = Spelled
    round_trip.width = 1000  # no line is broken
    whole, out = round_trip.load(base), StringIO()
    change(whole)
    round_trip.dump(whole, out)
    return out.getvalue()


def _change(whole: dict[str, Any], changes: dict[str, Any]) -> None:
    """Set in ``whole`` what ``changes`` contains. A block that names another variant replaces the whole block: the
    first variant's hyperparameters would mean nothing to it."""
    for key, value in changes.items():
        block = whole.get(key)
        if not isinstance(value, dict) or not isinstance(block, dict):
            whole[key] = value
            continue
        if value.get("name", block.get("name")) != block.get("name"):
            for stale in block.keys() - value.keys():
                del block[stale]
        _change(block, value)


def _comment(line: str) -> bool:
    return line.startswith("#")
