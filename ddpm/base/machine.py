"""What this machine has, and how its processes end."""

import ctypes
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ENDS = (signal.SIGINT, signal.SIGTERM)
SITE_CACHE = Path(".dvc-site")  # as in .dvc/config


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def die_with_parent(parent: int | None = None) -> None:
    """On Linux, get SIGTERM when the parent process dies, so that a killed ``dvc repro`` leaves nothing running.

    Raises SystemExit if the parent died while this process was starting: then its parent is not ``parent`` any more
    or, under DVC, not in DVC's process group, because the process that adopts orphans never is.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
    now = os.getppid()
    orphan = now != parent if parent else "DVC_STAGE" in os.environ and os.getpgid(now) != os.getpgrp()
    if orphan:
        sys.exit(128 + signal.SIGTERM)


def exit_at_sigterm() -> Any:
    """From now on SIGTERM raises SystemExit, so that what this process has started ends in order. Returns the handler
    that SIGTERM had."""
    return signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the yielded list, so that what is being done can be finished first."""
    caught: list[int] = []
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in ENDS}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def hold_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait until this block has ended, and then do what they do. For the main thread, around a
    fork: what a signal raises in one of its hooks, which are Python code, is printed and lost."""
    caught: list[int] = []
    try:
        with catch_signals() as caught:
            yield
    finally:
        for late in caught:
            signal.raise_signal(late)


def close_site_cache() -> None:
    """Keep others from the pickles that DVC keeps in the working folder: it opens new folders of them to everybody."""
    if SITE_CACHE.is_dir() and SITE_CACHE.stat().st_uid == os.getuid():
        SITE_CACHE.chmod(stat.S_IRWXU)
