"""What a program prints, read in bounded memory: the last value of each metric, and the last lines.

A metric's NAME is read from ``METRIC name=value``, ``name: value``, ``name = value``, also within a line or quotes, and
from a line that is a JSON object, whose inner keys follow dots. The last one counts, and one that is not finite is a
failure: that training has diverged.
"""

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ddpm.base.errors import printable
from ddpm.base.files import flatten

LINE = 2**16  # bytes of a line that are read, the last ones, and of the output that are kept
LARGEST_FILE = 10**7  # bytes
LARGEST = 1e100  # score: the squares of larger ones overflow
ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-Z\\^_])")  # of a terminal
# also within the call with which numpy and torch print a number
NUMBER = r"(?:[\w.]+\()?(?>([-+]?(?i:\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?|nan|inf(?:inity)?)))(?!\w|[.,]\d)"


class Output:
    """One stream. values: the last of each metric, by name. tail: its last bytes."""

    def __init__(self, names: Iterable[str], score: tuple[str, str] | None = None):
        """score: the name of a metric, and the regular expression that reads it."""
        self.rules = {name: re.compile(rf"(?<![\w./-]){re.escape(name)}['\"]?\s*[:=]\s*{NUMBER}") for name in names}
        self.needles = [name.encode() for name in self.rules]
        if score:
            self.rules[score[0]], self.needles = re.compile(score[1]), [b""]
        self.values = dict[str, float]()
        self.rest = self.tail = b""

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        self.tail = (self.tail + chunk)[-LINE:]
        text = self.rest + chunk
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self.rest = text[end:][-LINE:]
        for line in re.split(rb"[\r\n]+", text[:end]) if self._may_hold(text) else ():
            self._read(line)

    def close(self) -> None:
        """Read what follows the last end of a line."""
        self._read(self.rest)
        self.rest = b""

    def last_line(self) -> str:
        """The last line that is not empty, for a message."""
        lines = ESCAPES.sub("", self.tail.decode(errors="replace")).splitlines()
        return next((printable(line)[:200] for line in reversed(lines) if line.strip()), "")

    def _may_hold(self, text: bytes) -> bool:
        """Whether a metric may be in the text: most of what is printed is read no further."""
        return b"{" in text or any(needle in text for needle in self.needles)

    def _read(self, line: bytes) -> None:
        if not self._may_hold(line):
            return
        text = ESCAPES.sub("", line.decode(errors="replace"))
        if text.lstrip().startswith("{"):
            with suppress(ValueError, RecursionError):
                found = find_numbers(json.loads(text), self.rules)
                self.values |= found
                if found:
                    return
        for name, rule in self.rules.items():
            for match in rule.finditer(text):
                with suppress(TypeError, ValueError):  # a group that is not part of the match, or not a number
                    self.values[name] = float(match[1])


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
