"""A ladder opened by its file, whether it is about recipes or a program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ddpm.base.errors import UserError
from ddpm.ladder import climb, program_contest, terms
from ddpm.ladder.terms import LADDERS, Changes, Contest
from ddpm.params import file


def load(path: Path) -> Contest:
    """The ladder in a file of ladders/, a program's if it has ``run``. Raises UserError that names the key,
    its value and what is allowed."""
    terms.check_path(path)
    values = file.read_params(path) if path.exists() else {}
    return program_contest.parse(values, path) if "run" in values else terms.load(path)


def list_ideas(contest: Contest) -> Iterator[Changes]:
    """Where a search begins: the ideas of the ladder's file, and the rungs of all ladders that stand."""
    yield from contest.terms.model_dump(mode="json")["ideas"]
    for path in sorted(LADDERS.glob("*.yaml")):
        with suppress(UserError):  # what is wrong with another ladder is no fault of this one
            other = climb.read(load(path))
            yield from (other.changes(rung.key) for rung in reversed(other.rungs))
