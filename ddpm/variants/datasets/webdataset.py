"""Shards in the layout of webdataset: tar files in which the members of a sample have one name and several suffixes."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ddpm.base.errors import UserError
from ddpm.base.variant import shown
from ddpm.sources.archives import reading
from ddpm.sources.packed import Packed, PackedImage, Part, check_size
from ddpm.sources.photos import SUFFIXES

NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)  # up to the first dot after the last slash
NUMBER = re.compile(r"-?\d{1,18}")


class Webdataset(Packed):
    """Members that follow each other and differ only in the suffix are a sample: KEY.jpg, or another suffix of images,
    and its class. ``label`` says where that is: in KEY.cls or KEY.txt, a number or a word, or with ``json.FIELD`` in a
    field of KEY.json. By default it is in KEY.cls, if there is one.
    """

    label: Annotated[str, Field(pattern=r"^(cls|txt|json\.[^.]+)$")] | None = None

    suffixes = (".tar", ".tar.gz", ".tgz")

    def part(self, path: Path, name: str) -> Part:
        return Part(self._samples(path, name))

    def _samples(self, path: Path, name: str) -> Iterator[PackedImage]:
        suffix, _, field = (self.label or "cls").partition(".")
        keys = set()
        with reading(path) as members:
            for key, group in groupby(members, lambda member: _split(member.name)[0]):
                parts: dict[str, bytes] = {}
                for member in group:
                    kind = _kind(member.name, suffix)
                    if kind in parts:
                        raise UserError(f"{name}/{member.name}: a second {kind} of its sample; allowed: one of each")
                    if kind:
                        check_size(f"{name}/{member.name}", member.size)
                        parts[kind] = member.stream.read()
                if not parts:
                    continue
                sample = f"{name}/{key}"
                if key in keys:
                    raise UserError(f"{sample}: a second sample of this name; allowed: one, its members in a row")
                keys.add(key)
                if self.label and "class" not in parts:
                    raise UserError(f"{sample}: no .{suffix} (data.dataset.webdataset.label); every sample needs one")
                label = _label(parts["class"], field, f"{sample}.{suffix}") if "class" in parts else None
                yield PackedImage(sample, parts.get("picture", b""), label)


def _split(name: str) -> tuple[str, str]:
    """The key and the suffix; both empty for a name that has no key, such as that of a hidden file."""
    match = NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else ("", "")


def _kind(name: str, label: str) -> str | None:
    """What the member is of its sample: "class", if ``label`` is its suffix, "picture", or nothing that is needed."""
    _, suffix = _split(name)
    if suffix == label:
        return "class"
    return "picture" if f".{suffix}" in SUFFIXES else None


def _label(content: bytes, field: str, name: str) -> int | str:
    """A number or a word: the content, or the ``field`` of the object that it is as JSON."""
    try:
        text = content.decode()
        value = json.loads(text)[field] if field else text.strip()
    except (LookupError, RecursionError, TypeError, ValueError) as error:
        needed = f"a JSON object with {field!r}" if field else "text"
        raise UserError(f"{name}: must be {needed} ({type(error).__name__}: {error})") from error
    if isinstance(value, str):
        return int(value) if NUMBER.fullmatch(value) else value
    if type(value) is not int:
        raise UserError(f"{name}: {field} is {shown(value)}; allowed: a whole number or a word")
    return value
