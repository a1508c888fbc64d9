"""Mistakes that a person can mend, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_USER_ERROR = 2


class UserError(Exception):
    """One line: the key or file, its value, what is allowed, how to mend it. Never shown with a traceback."""


def exit_code(main: Callable[[], int | None]) -> int:
    """Run ``main``; a UserError becomes one line on stderr and exit code 2."""
    try:
        return main() or 0
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_USER_ERROR
