"""Who makes rows: the maker that trains, and that of a program, which has the same methods."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self, TypeAlias

from ddpm.arms import revision
from ddpm.arms.pool import Pool, count_slots
from ddpm.arms.program_runs import ProgramMaker
from ddpm.arms.run import Run
from ddpm.base.errors import UserError
from ddpm.base.files import md5
from ddpm.base.sections import Affects
from ddpm.params import inputs
from ddpm.params.config import keys_affecting
from ddpm.runs import alike, library
from ddpm.runs.record import Record


@dataclass(frozen=True)
class Pipeline:
    """The stages of a commit, with a study's own ``files``. folder: one to take for the project's, in which nothing was
    made."""

    commit: str
    files: tuple[str, ...] = ()
    folder: Path | None = None

    @cached_property
    def code(self) -> Path:
        """The folder with the code that runs."""
        return revision.export(self.commit, self.files, (self.folder or Path()) / revision.FOLDER)

    def at(self, commit: str, folder: Path | None) -> Self:
        """This maker with the code of another commit, in a folder in which nothing was made."""
        return replace(self, commit=commit, folder=folder)

    def count_slots(self, runs: Collection[Run], slots: int | None) -> int:
        """How many of the runs are made at a time, by default."""
        return count_slots(slots, {run.recipe.config.device for run in runs})

    def pool(self, runs: Collection[Run], slots: int | None, keep_models: bool = False) -> Pool:
        """A context that makes the rows. slots: how many run at a time."""
        return Pool(self.code, slots, {run.recipe.config.device for run in runs}, keep_models, self.folder)

    def check_committed(self, paths: Collection[str]) -> None:
        """Raises UserError unless these files, and what would run, are committed."""
        code = (*revision.CODE, *self.files) if self.commit == revision.head() else ()
        revision.check_committed([*paths, *code])
        for path in self.files:
            if not (other := self.code / path).exists() or md5(other) != md5(Path(path)):
                raise UserError(
                    f"{path}: not what it is in commit {self.commit[:10]}, which would run, but part of the plan: "
                    f"`git checkout {self.commit[:10]} {path}`, or name a --commit that has this one"
                )

    def differences(self, run: Run, record: Record) -> list[str]:
        """The params in which a record is not the run's."""
        planned, program = run.recipe.flat | dict(run.own), run.recipe.program
        if program:
            planned = keys_affecting(Affects.SCORED, planned)
        same = {"seed": record.seed == run.seed, "program": record.program == (program and program.program)}
        return [key for key in same if not same[key]] or alike.differences(record, planned)

    def other_code(self, run: Run, record: Record) -> list[str]:
        """In what the code that would run is not the code that made the record."""
        other = library.find_changes(record, self.code)
        if not run.recipe.program:
            listed = inputs.list_code(run.params, dvc_yaml=self.code / inputs.DVC_YAML)
            other += sorted({*listed} ^ record.code.keys())
        return other


Maker: TypeAlias = Pipeline | ProgramMaker
