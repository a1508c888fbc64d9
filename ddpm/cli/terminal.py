"""What the commands of ``ddpm`` share in showing their results."""

from __future__ import annotations

import json
import shutil


def width() -> int:
    """Columns for a table: the terminal's, between 80 and 120; 120 without a terminal."""
    return min(max(shutil.get_terminal_size((120, 24)).columns, 80), 120)


def answer(as_json: bool, value: object, *lines: object) -> None:
    """Print ``lines`` or, as JSON, ``value`` as one document; NaN and infinity in it raise ValueError."""
    print(*([json.dumps(value, indent=2, allow_nan=False)] if as_json else lines), sep="\n")
