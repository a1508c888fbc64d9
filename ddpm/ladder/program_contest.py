"""A ladder about a program: its file, and what an entry may be. An entry changes values, the commit, or both."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

from ddpm.arms import program_runs, revision
from ddpm.arms.program_runs import Facts, ProgramMaker
from ddpm.arms.run import Recipe
from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.ladder.axes import Climbable
from ddpm.ladder.terms import Changes, Contest
from ddpm.programs.program import COMMIT, LARGEST_SEED, Program

LENGTH = 16  # digits of the commit in a log's lines


class ProgramTerms(Program, Climbable):
    """The content of a file in ladders/ about a program; what it does not say here is as in ``Terms``."""

    kind: ClassVar = "score"
    target: ClassVar = None
    base: ClassVar = "its values"
    cost: ClassVar = "run"
    unseen: ClassVar[tuple[str, ...]] = ()

    @property
    def guard_metrics(self) -> tuple[str, ...]:
        return tuple(self.guards)


@dataclass(frozen=True)
class ProgramContest(Contest):
    """A ladder about a program. A set of changes has values, and the commit if it is not the base's."""

    terms: ProgramTerms  # type: ignore[assignment]
    seeds_below: ClassVar = (LARGEST_SEED + 1) // 2
    of_program: ClassVar = True

    @cached_property
    def base_commit(self) -> str:
        """The base's commit: the one that the log is about or, before the first attempt, the last that changed the
        ladder's file. Raises UserError if it is not here."""
        return revision.find(self.identity["base"])

    @cached_property
    def identity(self) -> dict[str, str]:
        terms = self.terms.rules("question", "minutes")
        first = self.log.read_text(encoding="utf-8").partition("\n")[0] if self.log.exists() else ""
        base = json.loads(first)["base"] if first else program_runs.find_commit(self.path)[:LENGTH]
        return {"terms": files.digest(terms)[:LENGTH], "base": base}

    @property
    def known(self) -> Facts:
        return Facts.of(self.terms)

    def recipe(self, changes: Changes, source: str = "") -> Recipe:
        params = {**self.terms.values, COMMIT: changes.get(COMMIT) or self.base_commit, **changes}
        return Recipe(params, cast(Any, None))

    def flat(self, changes: Changes, source: str = "") -> dict[str, Any]:
        self.terms.check(changes, source)
        return {**self.terms.values, **changes}

    def trial(self, changes: Changes, seed: int, length: float = 1.0) -> dict[str, Any]:
        return {**self.recipe(self.scale(changes, length)).params, "seed": seed}

    def cost(self, changes: Changes, source: str = "") -> float:
        return 1.0

    def check_allowed(self, key: str, source: str) -> None:
        self.terms.check_key(key, source)

    def check_images(self) -> None: ...

    def check(self, changes: Changes, champion: Changes, source: str, allow_null: bool = False) -> float:
        self.flat(changes, source)
        if not allow_null and self.is_same({**champion, **changes}, champion):
            raise UserError(f"{source}: changes nothing in the champion; --allow-null tries it anyway")
        return 1.0

    def is_same(self, one: Changes, other: Changes) -> bool:
        """Whether both have the same values, and commits that differ in nothing that runs."""
        a, b = (self.recipe(changes).params for changes in (one, other))
        return {**a, COMMIT: ""} == {**b, COMMIT: ""} and program_runs.is_same_code(a[COMMIT], b[COMMIT])

    @cached_property
    def maker(self) -> ProgramMaker:
        return ProgramMaker(self.terms, self.commit)

    def read_entry(self, path: Path | None, commit: str | None) -> tuple[str, dict[str, Any]]:
        if path is None:
            commit = commit or program_runs.find_head()
            return commit[:10], {COMMIT: commit}
        name, changes = super().read_entry(path, None)
        if COMMIT in changes:
            changes[COMMIT] = revision.find(str(changes[COMMIT]))
        return name, changes


def parse(values: dict[str, Any], path: Path, commit: str = "") -> ProgramContest:
    """The ladder in a file's plain values, checked. Raises UserError."""
    terms = sections.parse(values, str(path), ProgramTerms)
    return ProgramContest(path.stem, path, terms, terms.values, commit)
