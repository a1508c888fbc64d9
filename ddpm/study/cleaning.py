"""What experiments leave in .ddpm: data, models and code that they have in common, and what was stopped."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.base.locks import is_locked
from ddpm.study import pool, revision

STATES = Path(".ddpm/checkpoints")  # of trainings that were stopped


def clean(states: bool) -> Iterator[tuple[Path, int]]:
    """Delete what the next experiment can make again; yield each folder and the bytes that it freed. states: whether
    trainings that were stopped shall start over. Raises UserError while an experiment runs."""
    running = [path for path in pool.FOLDER.glob("*.lock") if is_locked(path)]
    if running:
        raise UserError(f"{running[0]}: an experiment is running: wait for it, or stop it")
    for folder in (pool.FOLDER, revision.FOLDER, *([STATES] if states else [])):
        if folder.exists():
            sizes = {(at := path.lstat()).st_ino: at.st_size for path in folder.rglob("*")}  # links count once
            shutil.rmtree(folder)
            yield folder, sum(sizes.values())
