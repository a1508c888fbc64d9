"""A run that a question asks for: an arm with a seed."""

import shlex
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator

from ddpm.base import sections, variant
from ddpm.base.errors import UserError
from ddpm.params.config import Config
from ddpm.programs.program import PLACE
from ddpm.runs import record

Kind = Literal["verdict", "tuning", "side", "trial"]


def _command(program: str) -> str:
    shlex.split(program)  # ValueError for a quotation without an end
    if not {"seed", "samples"} <= {*PLACE.findall(program)} <= {"seed", "samples", "train", "test"}:
        raise ValueError("needs {seed}, and {samples}, the file that it has to write; allowed, too: {train}, {test}")
    return program


class Program(sections.Section):
    """Another trainer as an arm.

    program: a command, run in a clone of the project, in which {train} and {test} are the processed images
    (.npy, uint8 N×C×H×W), {seed} the training seed and {samples} the file that it has to write, of the same form,
    with as many images as sample.count. files: of the repository, that it consists of. costs: what it costs, as far as
    that is known.
    """

    program: Annotated[record.Name, AfterValidator(_command)]
    files: tuple[Annotated[record.Key, AfterValidator(sections.inside)], ...] = ()
    costs: record.Costs = record.Costs()


@dataclass(frozen=True, eq=False)
class Recipe:
    """What runs of an arm have in common. Of a program, which is another trainer, what the params say about data and
    scores counts."""

    params: Mapping[str, Any]  # the content of a params.yaml, in which each run sets its seed
    config: Config  # the same, checked
    values: Mapping[str, Any] = field(default_factory=dict)  # of the tuned keys
    program: Program | None = None

    @cached_property  # a hundred runs have the same
    def flat(self) -> dict[str, Any]:
        """``Config.flat``."""
        return self.config.flat()


class Run(NamedTuple):
    """One run of one arm with one seed. name: of its row, after the question's. kind: what it is for: a verdict, the
    choice of values, a side of an attempt, or a search. place: of its values in the grid, unless it runs with the arm's
    chosen ones. own: keys that it sets besides the seed. pictured: whether some of what it draws is kept. model: the
    folder that gets its model.
    """

    name: str
    arm: str
    seed: int
    recipe: Recipe
    kind: Kind = "verdict"
    place: int | None = None
    own: Mapping[str, Any] = MappingProxyType({})
    pictured: bool = False
    model: Path | None = None

    @property
    def may_diverge(self) -> bool:
        """Whether a training that diverges is a result. In a verdict it would be a hole."""
        return self.kind != "verdict"

    @property
    def params(self) -> dict[str, Any]:
        """The content of its params.yaml."""
        return apply_overrides(self.recipe.params, {**self.own, "seed": self.seed}, self.name)


def apply_overrides(params: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A copy of params with values set at dotted keys. Raises UserError for a whole section, and for a key that leads
    through anything but sections."""
    copy = deepcopy(dict(params))
    for key, value in overrides.items():
        if "." not in key and isinstance(value, Mapping):
            such = f"{key}.{next(iter(value), 'KEY')}"
            raise UserError(f"{source}: {key}: {variant.quote(value)} is a whole section; allowed: keys such as {such}")
        *sections, last = key.split(".")
        block = copy
        for section in sections:
            block = block.setdefault(section, {})
            if not isinstance(block, dict):
                raise UserError(f"{source}: {key}: {section} is a value, no section; allowed: a key of params.yaml")
        block[last] = value
    return copy
