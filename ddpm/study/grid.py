"""The values that a study tries for every arm before its verdict, on seeds of their own."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import product
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, PlainValidator, model_validator

from ddpm.base.errors import UserError
from ddpm.base.sections import Section
from ddpm.params import config, presets
from ddpm.runs import alike
from ddpm.verdicts.tuning import named

SECTIONS = ("diffusion", "model", "train", "sample")  # the others say what is measured, or on what data
SEEDED = ("sample.seeds",)
MOST = 64  # points of a grid
FEWEST, FEW = 4, 2  # seeds, and with `few: true`: one seed would not show how much the next one may differ
FIRST = 2 * 10**6  # above the seeds of any study


def _seeds(value: object) -> int | tuple[int, ...]:
    if type(value) is int and 1 <= value <= MOST:  # by type, because True is an int
        return value
    if isinstance(value, tuple) and 0 < len(set(value)) == len(value) and all(type(seed) is int for seed in value):
        return value
    raise ValueError(f"a number of seeds from 1 to {MOST}, or a list of different seeds")


class Tune(Section):
    """``KEY: [VALUES]`` for one or more keys of params.yaml, which make a grid; and ``seeds``, how many or which.

    Every arm is trained at every point of the grid with each of these seeds. It enters the verdict with the values
    that have the best mean of the primary metric. few: accept fewer than FEWEST seeds. claim: whether the verdict is
    about the values chosen, or about each arm's best (ddpm/study/best.py).
    """

    model_config = ConfigDict(extra="allow")

    seeds: Annotated[Any, PlainValidator(_seeds)]
    few: bool = Field(default=False, exclude=True)  # no result depends on it, so the plan's hash does not either
    claim: Literal["chosen", "best"] = "chosen"

    @model_validator(mode="after")
    def _grid(self) -> Self:
        if not self.values:
            raise ValueError("no key to tune; allowed: keys of params.yaml, such as train.learning_rate: [1.0e-3, ...]")
        for key, values in self.values.items():
            if key.partition(".")[0] not in SECTIONS or alike.is_in(key, (*SEEDED, *alike.MECHANICAL)):
                raise ValueError(
                    f"{key}: cannot be tuned; allowed: keys of {', '.join(SECTIONS)} that the images depend on, "
                    "without the seeds"
                )
            if not isinstance(values, list) or len(values) < 2 or any(values.count(value) > 1 for value in values):
                raise ValueError(f"{key}: {values} is not allowed: a list of two or more different values")
        if len(self.drawn) < (FEW if self.few else FEWEST):
            allowed = f"{FEWEST} or more, or with `few: true` {FEW} or more"
            raise ValueError(f"seeds: {len(self.drawn)} cannot tell one value from the next; allowed: {allowed}")
        if (count := len(self.grid)) > MOST:
            raise ValueError(f"{count} combinations of values; allowed: at most {MOST}")
        return self

    @property
    def values(self) -> dict[str, Any]:
        """Key -> the list of values to try."""
        return self.model_dump(mode="json", exclude={"seeds", "claim"})

    @property
    def grid(self) -> list[dict[str, Any]]:
        """Every combination, key -> value, in the plan's order; the last key varies fastest."""
        return [dict(zip(self.values, row, strict=True)) for row in product(*self.values.values())]

    @property
    def drawn(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(FIRST, FIRST + self.seeds)) if isinstance(self.seeds, int) else tuple(self.seeds)


class Point(NamedTuple):
    """Values of the tuned keys, and an arm's config with them."""

    values: Mapping[str, Any]
    config: config.Config


def points(tune: Tune, params: Mapping[str, Any], source: str) -> tuple[Point, ...]:
    """The grid for an arm with these complete ``params``, each point checked. Raises UserError."""
    checked = []
    for values in tune.grid:
        changed = deepcopy(dict(params))
        for key, value in values.items():
            put(changed, key, value, f"{source}: tune")
        checked.append(Point(values, config.check(changed, f"{source}, with {named(values)}")))
    return tuple(checked)


def overridden(base: str, overrides: Mapping[str, Any], source: str) -> str:
    """The text of a params file with values set at dotted keys. Raises UserError for a key that leads through anything
    but sections."""

    def change(whole: Any) -> None:
        for key, value in overrides.items():
            put(whole, key, value, source)

    return presets.edited(base, change)


def put(params: Any, key: str, value: Any, source: str) -> None:
    """Set a value at a dotted key. Raises UserError for a key that leads through anything but sections."""
    *sections, last = key.split(".")
    block = params
    for section in sections:
        block = block.setdefault(section, {})
        if not isinstance(block, dict):
            raise UserError(f"{source}: {key}: {section} is a value, no section; allowed: a key of params.yaml")
    block[last] = value
