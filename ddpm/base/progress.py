"""One style of progress bar: live on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm

LOG_SECONDS = 15.0


def bar(
    total: int | None, description: str, unit: str, done: int = 0, shown: bool = True, brief: bool = False
) -> tqdm[NoReturn]:
    """A bar that shows progress, speed and time left, starting at ``done`` units.

    total: None if unknown. unit: "B" (bytes) is shown in kB and MB. A ``brief`` bar appears after a second and
    disappears when it is done.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else LOG_SECONDS,
        maxinterval=LOG_SECONDS,
        delay=1.0 if brief else 0.0,
        leave=not brief,
        disable=not shown,
    )


def say(line: str) -> None:
    """Print a line on stderr above the bar that is shown, if any."""
    tqdm.write(line, file=sys.stderr)


def duration(seconds: float) -> str:
    """A readable duration: ``6.0 s``, ``35 s``, ``2 min 20 s``, ``5.8 h``, ``12.6 days``."""
    whole = round(seconds)
    if whole < 100:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
