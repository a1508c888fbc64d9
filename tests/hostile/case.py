"""A bad input."""

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HEADROOM = 2**29  # bytes of address space that reading a bad input may take beyond what the process has


@dataclass(frozen=True)
class Case:
    """given: writes the input into the working folder. when: reads it as the project does. line: text in the line.

    left: new top-level names that may be in the working folder afterwards.
    """

    group: str
    name: str
    given: Callable[[], object]
    when: Callable[[], object]
    line: str
    left: frozenset[str] = frozenset()


def listing() -> frozenset[str]:
    """Everything in the working folder and next to it."""
    return frozenset(str(path.relative_to(Path.cwd().parent)) for path in Path.cwd().parent.rglob("*"))


@contextlib.contextmanager
def bounded(headroom: int = HEADROOM) -> Iterator[None]:
    """Allow the process that many more bytes, else MemoryError; no effect if the system has no such limit."""
    if sys.platform != "linux":
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + headroom, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
