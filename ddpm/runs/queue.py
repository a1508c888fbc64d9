"""What DVC's queue holds, and what it is running: experiments without a record yet.

DVC keeps waiting and failed ones in git, as stashes, and notes about running processes in .dvc/tmp. Asking DVC itself
would take seconds.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal, TypeAlias

import psutil

from ddpm.runs import library

State: TypeAlias = Literal["queued", "failed", "running"]

NOTES = Path(".dvc/tmp/exps")
STASHES: dict[str, State] = {"refs/exps/celery/stash": "queued", "refs/exps/celery/failed": "failed"}
STASHED = re.compile(r"commit: dvc-exp:[0-9a-f]+:[0-9a-f]+:([^:]+)(:.+)?")  # the last: a branch


def unfinished() -> dict[str, State]:
    """Name -> state of the experiments that wait, failed or run. Killed ones are in none of DVC's lists.

    Raises UserError outside a repository.
    """
    git = library.repository()
    states: dict[str, State] = {}
    for reference, state in STASHES.items():
        entries = git.references.get(reference)
        messages = [STASHED.fullmatch(entry.message) for entry in entries.log()] if entries else []
        states |= {stashed[1]: state for stashed in messages if stashed}
    for note in NOTES.glob("run/*/*.json"):
        name = read_note(note.with_suffix(".run")).get("name")
        if isinstance(name, str) and lives(read_note(note), note):
            states[name] = "running"
    return states


def lives(noted: Any, path: Path) -> bool:
    """Whether the process that DVC noted in the file, as ``pid``, still runs; it must be older than the file."""
    try:
        return bool(psutil.Process(noted["pid"]).create_time() <= path.stat().st_mtime)
    except (KeyError, OSError, TypeError, ValueError, psutil.Error):
        return False


def read_note(path: Path) -> dict[str, Any]:
    """One of DVC's JSON files; empty if there is none, or only half of one."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
