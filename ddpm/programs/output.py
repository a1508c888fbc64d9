"""What a program prints, read in bounded memory: the last value of each metric, and the last lines.

A metric's NAME is read from ``METRIC name=value``, ``name: value``, ``name = value``, also within a line or quotes, and
from a line that is a JSON object, whose inner keys follow dots. The last one counts, and one that is not finite is a
failure: that training has diverged.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ddpm.base.errors import printable
from ddpm.base.files import flatten

LINE = 2**16  # bytes of a line that are read, the last ones, and of the output that are kept
LARGEST_FILE = 10**7  # bytes
LARGEST = 1e100  # score: the squares of larger ones overflow
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])")  # of a terminal
# also within the call with which numpy and torch print a number
NUMBER = r"(?:[\w.]+\()?(?>([-+]?(?i:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf(?:inity)?)))(?!\w|[.,]\d)"


@dataclass
class Output:
    """One stream. values: the last of each metric, by name. tail: its last bytes."""

    values: dict[str, float] = field(default_factory=dict)
    tail: bytes = b""

    def last_line(self) -> str:
        """The last line that is not empty, for a message."""
        lines = ESCAPES.sub("", self.tail.decode(errors="replace")).splitlines()
        return next((printable(line)[:200] for line in reversed(lines) if line.strip()), "")


def rule(name: str) -> str:
    """The regular expression that reads a metric of that name."""
    return rf"(?<![\w./-]){re.escape(name)}['\"]?\s*[:=]\s*{NUMBER}"


def read_stream(stream: IO[bytes], rules: Mapping[str, str]) -> Output:
    """Read a stream from beginning to end. rules: name of a metric -> the regular expression that reads it."""
    patterns = {name: re.compile(pattern) for name, pattern in rules.items()}
    # most of what is printed is read no further; an expression of the user's may match anything
    needles = [b"{", *(name.encode() if pattern == rule(name) else b"" for name, pattern in rules.items())]
    output, rest = Output(), b""
    stream.seek(0)
    while chunk := stream.read(LINE):
        output.tail, text = (output.tail + chunk)[-LINE:], rest + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        rest = text[end:][-LINE:]
        if rules and any(needle in text for needle in needles):
            for line in re.split(rb"[\r\n]+", text[:end]):
                output.values |= _read_line(line, patterns)
    return replace(output, values=output.values | _read_line(rest, patterns))


def _read_line(line: bytes, rules: Mapping[str, re.Pattern[str]]) -> dict[str, float]:
    """The last value of each metric in a line."""
    text, values = ESCAPES.sub("", line.decode(errors="replace")), dict[str, float]()
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            values = find_numbers(json.loads(text), rules)
    for name, rule in () if values else rules.items():
        for match in rule.finditer(text):
            with suppress(TypeError, ValueError):  # a group that is not part of the match, or not a number
                values[name] = float(match[1])
    return values


def find_numbers(value: Any, names: Iterable[str]) -> dict[str, float]:
    """The numbers of a JSON object under these keys."""
    flat = {**flatten(value), **value} if isinstance(value, dict) else {}
    found = {name: flat[name] for name in names if isinstance(flat.get(name), int | float)}
    return {name: float(number) if abs(number) < LARGEST else float("inf") for name, number in found.items()}


def read_file(path: Path, names: Iterable[str]) -> dict[str, float]:
    """The numbers in a JSON file under these keys; none if there is no such file, or it is not one."""
    with suppress(OSError, ValueError, RecursionError), path.open("rb") as file:
        return find_numbers(json.loads(file.read(LARGEST_FILE)), names)
    return {}
