"""A study's plan: one file in git that states the question, the arms, and when it may be decided."""

from __future__ import annotations

import shlex
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from ddpm.base import files, sections
from ddpm.base.errors import UserError, printable
from ddpm.runs import alike, record
from ddpm.scoring import metric
from ddpm.verdicts import metrics
from ddpm.verdicts.pairing import Alike

NAME = r"[a-z0-9][a-z0-9_-]{0,40}"
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Look = Annotated[int, Field(ge=2, le=200)]  # in seeds
PLACES = ("train", "test", "seed", "samples")  # what a program's command may have in braces
Spending = Literal["pocock", "evalue"]
SECTIONS = ("diffusion", "model", "train", "sample")  # that can be tuned; the others say what is measured, and on what
TUNING_SEED = 2 * 10**6  # the first; above the seeds of any verdict


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


class Tune(sections.Section):
    """``KEY: [VALUES]`` for one or more keys of params.yaml, which make a grid; and ``seeds``, how many.

    Every arm is trained at every point of the grid with each of these seeds. It enters the verdict with the values
    that have the best mean of the primary metric. claim: whether the verdict is about the values chosen, or about each
    arm's best (ddpm/study/best.py).
    """

    model_config = ConfigDict(extra="allow")

    seeds: Annotated[int, Field(ge=2, le=64)] = 4  # one would not show how much the next may differ
    claim: Literal["chosen", "best"] = "chosen"

    @model_validator(mode="after")
    def _grid(self) -> Self:
        if not self.values:
            raise ValueError("no key to tune; allowed: keys of params.yaml, such as train.learning_rate: [1.0e-3, ...]")
        for key, values in self.values.items():
            if key.partition(".")[0] not in SECTIONS or alike.is_in(key, ("sample.seeds", *alike.MECHANICAL)):
                raise ValueError(f"{key}: cannot be tuned; allowed: what images depend on in {', '.join(SECTIONS)}")
            if not isinstance(values, list) or len(values) < 2 or any(values.count(value) > 1 for value in values):
                raise ValueError(f"{key}: {values} is not allowed: a list of two or more different values")
        return self

    @property
    def values(self) -> dict[str, Any]:
        """Key -> the list of values to try."""
        return self.model_dump(mode="json", exclude={"seeds", "claim"})

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Every combination, key -> value, in the plan's order; the last key varies fastest."""
        return [dict(zip(self.values, row, strict=True)) for row in product(*self.values.values())]


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
    """

    question: Annotated[str, Field(min_length=1), AfterValidator(printable)]
    base: str | None = None
    common: dict[str, Any] = Field(default={})
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]
    primary: Annotated[str, AfterValidator(_judged)] = "classifier.fd"
    blind_to: tuple[metric.Damaged, ...] = ()
    looks: Annotated[tuple[Look, ...], Field(min_length=1), AfterValidator(_rising)] = (8, 12, 16, 20)
    spending: Spending = "pocock"
    first_seed: Annotated[int, Field(ge=0, le=TUNING_SEED // 2)] = 0
    may_differ: tuple[Alike, ...] = ()
    tune: Tune | None = None


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
