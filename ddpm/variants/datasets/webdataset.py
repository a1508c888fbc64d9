"""Shards in the layout of webdataset: tar files in which the members of a sample have one name and several suffixes."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.sources.archives import reading
from ddpm.sources.packed import Packed, PackedImage, Part, check_size
from ddpm.sources.photos import SUFFIXES

NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)  # up to the first dot after the last slash
NUMBER = re.compile(r"-?\d{1,18}")


class Webdataset(Packed):
    """Members that follow each other and differ only in the suffix are a sample: KEY.jpg, or another suffix of images,
    and its class in KEY.cls, a number or a word.
    """

    suffixes = (".tar", ".tar.gz", ".tgz")

    def part(self, path: Path, name: str) -> Part:
        return Part(_samples(path, name))


def _samples(path: Path, name: str) -> Iterator[PackedImage]:
    keys = set()
    with reading(path) as members:
        for key, group in groupby(members, lambda member: _split(member.name)[0]):
            parts: dict[str, bytes] = {}
            for member in group:
                kind = _kind(member.name)
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
            label = _label(parts["class"], f"{sample}.cls") if "class" in parts else None
            yield PackedImage(sample, parts.get("picture", b""), label)


def _split(name: str) -> tuple[str, str]:
    """The key and the suffix; both empty for a name that has no key, such as that of a hidden file."""
    match = NAME.fullmatch(name)
    return (match[1], match[2].lower()) if match else ("", "")


def _kind(name: str) -> str | None:
    """What the member is of its sample: its class, its picture, or nothing that is needed."""
    _, suffix = _split(name)
    if suffix == "cls":
        return "class"
    return "picture" if f".{suffix}" in SUFFIXES else None


def _label(content: bytes, name: str) -> int | str:
    """A number or a word."""
    try:
        word = content.decode().strip()
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: must be text ({error})") from error
    return int(word) if NUMBER.fullmatch(word) else word
