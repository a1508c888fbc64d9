"""A study's plan: one file in git that states the question, the arms, and when it may be decided."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError, printable
from ddpm.runs import record
from ddpm.scoring import metric
from ddpm.study import grid
from ddpm.verdicts import metrics
from ddpm.verdicts.pairing import Alike

NAME = r"[a-z0-9][a-z0-9_-]{0,40}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Look = Annotated[int, Field(ge=2, le=200)]  # in seeds
PLACES = ("train", "test", "seed", "samples")  # what a program's command may have in braces
Budget = Literal["images", "flops"]
Spending = Literal["pocock", "evalue"]


def _rising(looks: tuple[int, ...]) -> tuple[int, ...]:
    if list(looks) != sorted(set(looks)):
        raise ValueError("must rise")
    return looks


def _judged(primary: str) -> str:
    try:
        metrics.direction(primary)
    except UserError as error:
        raise ValueError(str(error)) from error
    return primary


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError("not a path in this repository")
    return path


def _command(program: str) -> str:
    try:
        shlex.split(program.format_map(dict.fromkeys(PLACES, "")))
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"not a command ({error!r}); allowed in braces: {', '.join(PLACES)}") from error
    if "{samples}" not in program or "{seed}" not in program:
        raise ValueError("needs {seed}, and {samples}, the file that it has to write")
    return program


class Plan(sections.Section):
    """The content of a file in studies/. The first of ``arms`` is the baseline.

    arms: name -> params key (``diffusion.schedule.name``) -> value, on top of ``common``, the keys of all arms, on top
    of ``base``: a preset or, without one, the checked-out params.yaml; or a ``Program``. primary: the metric that the
    verdict is about; by default the Fréchet distance in the features of the baseline's first extractor. blind_to:
    damage to images that it may overlook, by ``ddpm sanity``.
    looks: numbers of seeds at which it may be decided. spending: how much of the error rate each look may spend
    (ddpm/verdicts/sequential.py); with ``evalue``, which needs more seeds, looks may be changed and added at any time.
    first_seed: the first of the consecutive seeds; a study that extends another one starts where that one ended.
    may_differ: what the runs of one seed need not have in common (``pairing.check_alike``); everything else is refused.
    tune: values to try for each arm, on seeds that the verdict does not use (``Study.tuning``).
    budget: what all arms have equal (ddpm/study/budget.py).
    """

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    base: str | None = None
    common: dict[str, Any] = Field(default={})
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    primary: Annotated[str, AfterValidator(_judged)] = "classifier.fd"
    blind_to: tuple[metric.Damaged, ...] = ()
    looks: Annotated[tuple[Look, ...], Field(min_length=1), AfterValidator(_rising)] = (8, 12, 16, 20)
    spending: Spending = "pocock"
    first_seed: Annotated[int, Field(ge=0)] = 0
    may_differ: tuple[Alike, ...] = ()
    tune: grid.Tune | None = None
    budget: Budget = "images"


class Program(sections.Section):
    """Another trainer as an arm.

    program: a command, run in a clone of the project, in which {train} and {test} are the processed images
    (.npy, uint8 N×C×H×W), {seed} the training seed and {samples} the file that it has to write, of the same form,
    with as many images as sample.count. files: of the repository, that it consists of. costs: what it costs, as far as
    that is known.
    """

    program: Annotated[record.Name, AfterValidator(_command)]
    files: tuple[Annotated[record.Key, AfterValidator(_inside)], ...] = ()
    costs: record.Costs = record.Costs()

    def digests(self, root: Path = Path()) -> dict[str, str]:
        """Path -> md5 of its files, in the folder ``root``. Raises UserError if one is missing."""
        if missing := [path for path in self.files if not (root / path).is_file()]:
            raise UserError(f"files: {missing[0]}: no such file in this repository; name those the program consists of")
        return {path: files.md5(root / path) for path in self.files}
