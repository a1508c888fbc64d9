"""One style of progress bar: alive on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm

LOG_SECONDS = 15.0


def bar(total: int, description: str, unit: str, done: int = 0, shown: bool = True) -> tqdm[NoReturn]:
    """A bar that shows share, speed and time left; ``done`` units are there already."""
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=done,
        desc=description,
        unit=unit,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else LOG_SECONDS,
        maxinterval=LOG_SECONDS,
        disable=not shown,
    )
