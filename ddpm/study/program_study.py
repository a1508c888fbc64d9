"""A study of a program: its arms are values of its command, commits, or both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, cast

from pydantic import Field

from ddpm.arms import program_runs, revision
from ddpm.arms.program_runs import Facts, ProgramMaker
from ddpm.arms.run import Recipe
from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.params.config import Compare
from ddpm.programs.program import COMMIT, DIGEST, Program
from ddpm.runs.rows import Rows
from ddpm.study.plan import Arms, Study
from ddpm.verdicts.arms import Arm


class ProgramPlan(Program, Arms):
    """The content of a file in studies/ about a program; what it does not say here is as in ``Plan``. An arm has values
    of the command, and ``commit`` if it is not to be the one that is checked out at the first run."""

    base: ClassVar = "its values"
    tune: ClassVar = None
    may_differ: ClassVar = ("code",)

    first_seed: Annotated[int, Field(ge=0, le=2**30)] = 0

    def refusals(self) -> Iterator[str]:
        yield from super().refusals()
        if self.deterministic:
            yield "deterministic: true: a study compares arms over seeds; a ladder accepts what one run decides"


@dataclass(frozen=True, eq=False)
class ProgramStudy(Study):
    """A checked plan of a program. head: the commit of arms that name none."""

    plan: ProgramPlan  # type: ignore[assignment]
    head: str = ""
    of_program: ClassVar = True

    @property
    def compare(self) -> Compare:
        return Compare(threshold=0.0, floors={})

    @cached_property
    def hash(self) -> str:
        return files.digest(self.plan.model_dump(mode="json", exclude={"question"}))

    def known(self, primary: str) -> Facts:
        return Facts.of(self.plan)

    def select_metrics(self, shared: set[str]) -> list[str]:
        return [*self.plan.directions]

    def check(self, arms: Sequence[Arm], by: Sequence[str]) -> tuple[str, list[str]]:
        self.known("").check_distinct(arms)
        return "", []

    def check_code(self) -> None:
        """Raises UserError unless the files that are checked out are those of ``head``, if an arm runs it."""
        uses_head = any(COMMIT not in arm for arm in self.plan.arms.values())
        if uses_head and not program_runs.is_same_code(self.head, program_runs.find_head()):
            raise UserError(
                f"{self.path}: its first runs are of commit {self.head[:10]}, and what is checked out differs: check "
                "that out, or name the commit in each arm"
            )

    def maker(self, commit: str) -> ProgramMaker:
        return ProgramMaker(self.plan, commit)


def parse(value: dict[str, Any], path: Path, made: Rows) -> ProgramStudy:
    """The study in a file's plain values, checked. made: its rows. Raises UserError that names the key, its value and
    what is allowed."""
    plan = sections.parse(value, str(path), ProgramPlan)
    own = {f"{path.stem}-{arm}" for arm, values in plan.arms.items() if COMMIT not in values}
    first = next((run for run in made.records.values() if run.name.rpartition("-")[0] in own), None)
    commit = str(first.params.get(COMMIT)) if first else ""
    head = commit if DIGEST.fullmatch(commit) else revision.head()
    arms, known = dict[str, Recipe](), dict[str, str]()
    for arm, values in plan.arms.items():
        source = f"{path}: arms.{arm}"
        commit = revision.find(str(values[COMMIT])) if COMMIT in values else head
        plan.check({**values, COMMIT: commit}, source)
        params = {**plan.values, **values, COMMIT: commit}
        if (twin := known.setdefault(files.digest(params), arm)) != arm:
            raise UserError(f"{path}: arms: {twin} and {arm} are equal: change one of them, or drop it")
        arms[arm] = Recipe(params, cast(Any, None))
    return ProgramStudy(path.stem, plan, arms, path, head=head)
