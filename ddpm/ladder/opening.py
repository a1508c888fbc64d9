"""A ladder opened by its file, whether it is about recipes or a program."""

from __future__ import annotations

from pathlib import Path

from ddpm.ladder import program_contest, terms
from ddpm.ladder.terms import Contest
from ddpm.params import file


def load(path: Path) -> Contest:
    """The ladder in a file of ladders/, a program's if it has ``run``. Raises UserError that names the key,
    its value and what is allowed."""
    terms.check_path(path)
    values = file.read_params(path) if path.exists() else {}
    return program_contest.parse(values, path) if "run" in values else terms.load(path)
