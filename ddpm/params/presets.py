"""Presets: ``digits_2026`` is a complete params file; every other holds its own header and what it changes in that, in
the preset that its key ``base`` names, or in another that it is put on. ``digits`` is params.yaml as it is shipped."""

from importlib import resources
from io import StringIO
from itertools import dropwhile, takewhile
from typing import Any

from ruamel.yaml import YAML

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.params import file

BASE = "digits_2026"
FOLDER = resources.files("ddpm.presets")


def names() -> list[str]:
    return sorted(file.name.removesuffix(".yaml") for file in FOLDER.iterdir())


def text(name: str, on: str | None = None) -> str:
    """The complete params file, with its own header and the base's comments. Raises UserError for an unknown name.

    on: a preset to put it on, in place of its base.
    """
    written = _written(name)
    if name == BASE and on in {None, BASE}:
        return written
    changes = YAML().load(written)
    base = changes.pop("base", BASE)
    header = [*takewhile(_comment, written.splitlines(keepends=True)), *([f"# Put on: {on}.\n"] if on else [])]
    return edit(text(on or base), changes, "".join(header))


def edit(params: str, changes: dict[str, Any], header: str) -> str:
    """A params file with other values, nested as in it, and another header; its comments stay."""
    round_trip = file.writer()
    whole, out = round_trip.load(params), StringIO()
    _change(whole, changes)
    round_trip.dump(whole, out)
    return "".join([header, *dropwhile(_comment, out.getvalue().splitlines(keepends=True))])


def read(name: str) -> dict[str, Any]:
    """The complete params as plain values: those of ``text`` in a fifth of its time, as no comment is kept. Raises
    UserError for an unknown name."""
    changes = file.decode(_written(name), name)
    if name == BASE:
        return changes
    values = read(changes.pop("base", BASE))
    _change(values, changes)
    return values


def _written(name: str) -> str:
    """The text of a preset's file. Raises UserError for an unknown name."""
    if name not in names():
        hint = variant.closest(name, names())
        raise UserError(f"preset: unknown {name!r}{hint}; allowed: {', '.join(names())}")
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


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
