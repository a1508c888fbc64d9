"""Many YAML files that have most of their text in common: each part is parsed once.

A thousand experiments have a thousand files dvc.lock of 27 kB each, which differ in a few lines. PyYAML's fastest
reader takes 6 ms for one, this 1 ms.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import yaml

SMALL = 4  # lines below a key that are not worth splitting
KEY = re.compile(r" *([\w./-]+):(?=\s|$)(.*)")  # what follows it on its line


def read(text: str) -> Any:
    """What ``yaml.load(text, yaml.CBaseLoader)`` gives: every scalar stays text. Do not change it: it is shared.

    Raises yaml.YAMLError.
    """
    try:
        return _collection(text)
    except (RecursionError, TypeError, ValueError, yaml.YAMLError):  # other YAML than mappings and lists in blocks
        return _whole(text)


def _whole(text: str) -> Any:
    return yaml.load(text, yaml.CBaseLoader)  # noqa: S506 (makes nothing but text)


def _collection(text: str) -> Any:
    """A mapping or a list, split where an entry begins at the indentation of the first. Raises ValueError where there
    is none."""
    start = re.search(r"^( *)(- )?[^\s#-]", text, re.MULTILINE)
    if not start:
        raise ValueError("no entry")
    entry = "- " if start[2] else r"[^\s#-]"
    head, *entries = re.split(rf"^(?= {{{len(start[1])}}}{entry})", text, flags=re.MULTILINE)
    if any(line.strip() and not line.lstrip().startswith("#") for line in head.splitlines()):
        raise ValueError("text before the first entry")
    if start[2]:
        return [item for entry in entries for item in _few_lines(list, entry)]
    found: dict[str, Any] = {}
    for entry in entries:
        found |= _entry(entry)
    return found


@lru_cache(maxsize=2**9)  # of any size
def _entry(text: str) -> Any:
    """A key with its value, as a mapping. Raises ValueError where the key is not a plain word."""
    first, _, below = text.partition("\n")
    key = KEY.fullmatch(first)
    if not key:
        raise ValueError("no key")
    return _few_lines(dict, text) if key[2] or below.count("\n") <= SMALL else {key[1]: _collection(below)}


@lru_cache(maxsize=2**14)
def _few_lines(kind: type, text: str) -> Any:
    """Raises TypeError when they are not such a collection."""
    found = _whole(text)
    if not isinstance(found, kind):
        raise TypeError(f"{kind} expected")
    return found
