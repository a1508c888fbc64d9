"""The maker whose rows are runs of a program, and what a study and a ladder need to know of it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ddpm.arms import revision
from ddpm.arms.program_pool import ProgramPool
from ddpm.arms.run import Run
from ddpm.base.errors import UserError, plural
from ddpm.programs import worktree
from ddpm.programs.program import Program
from ddpm.runs.record import Record
from ddpm.verdicts.arms import Arm
from ddpm.verdicts.table import Columns

OURS = ("ladders", "studies", "metrics")  # folders that say nothing about what a program does
SHARE = 0.013  # of the mean, by which a guard may get worse, unless the file has its margin
FEWEST = 3  # equal scores: two may be a coincidence of a coarse metric


@dataclass(frozen=True)
class ProgramMaker:
    """Makes rows by a program, each of the commit that its arm names."""

    program: Program
    commit: str = ""

    def pool(self, runs: Collection[Run], slots: int | None, keep_models: bool = False) -> ProgramPool:
        return ProgramPool(self.program, slots)

    def check_committed(self, paths: Collection[str]) -> None:
        revision.check_committed(paths)

    def differences(self, run: Run, record: Record) -> list[str]:
        planned = run.params
        return sorted(key for key in planned | record.params if planned.get(key) != record.params.get(key))

    def other_code(self, run: Run, record: Record) -> list[str]:
        return []  # the commit is one of its params

    def at(self, commit: str, folder: Path | None) -> Self:
        return self


def known(program: Program) -> Columns:
    """Facts about the metrics: the margin of a guard is a share of the mean unless the file has it."""
    return Columns(program.directions, {program.metric: 0.0, **program.margins}, SHARE)


def check_seeds(program: Program, arms: Iterable[Arm]) -> None:
    """Raises UserError if an arm's scores are all equal: the same run again is no evidence."""
    for arm in arms:
        scores = [run.scores.get(program.metric) for run in arm.runs.values() if not run.diverged]
        if len(scores) >= FEWEST and len({*scores}) == 1 and not program.deterministic:
            raise UserError(
                f"{arm.label}: {program.metric} is {scores[0]:g} under each of {plural(len(scores), 'seed')}: the "
                "program ignores {seed} and $SEED; let it use one, or set deterministic: true, and one run decides"
            )


def find_commit(path: Path) -> str:
    """The last commit that changed a file. Raises UserError if it is not committed as it is."""
    if (commit := worktree.git("rev-list", "--max-count=1", "HEAD", "--", str(path)).strip()) == "":
        raise UserError(f"{path}: not committed, and only committed files run programs: `git add {path}` and commit")
    return commit


def find_head() -> str:
    """The commit that is checked out. Raises UserError if a file has changed since."""
    changed = worktree.git("status", "--porcelain", "--untracked-files=no", "--", ".", *_but_ours()).splitlines()
    if changed:
        raise UserError(
            f"{changed[0][3:]}: has uncommitted changes, and an attempt runs a commit: commit or discard them"
        )
    return worktree.git("rev-parse", "HEAD").strip()


def is_same_code(one: str, other: str) -> bool:
    """Whether two commits differ in nothing that a program may read."""
    return one == other or not worktree.git("diff", "--name-only", "--no-ext-diff", one, other, "--", ".", *_but_ours())


def _but_ours() -> list[str]:
    return [f":(exclude){folder}" for folder in OURS]
