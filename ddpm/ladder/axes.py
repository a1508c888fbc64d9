"""What a ladder's file says of recipes and programs alike: the error, how many seeds an attempt has, and what a search
varies."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, PlainValidator

from ddpm.base.sections import Fraction, Section

BUDGET: Final = "budget"  # in a space: the steps are those that the rest leaves
SEARCHED: Final = ("space", "ideas", "lengths")  # what only a search heeds


class SeedRange(Section):
    """fewest: before an entry can be accepted. most: then the attempt ends undecided."""

    fewest: Annotated[int, Field(ge=2, le=200)] = 6
    most: Annotated[int, Field(ge=2, le=200)] = 32

    def refusals(self) -> Iterator[str]:
        if self.fewest > self.most:
            yield f"fewest {self.fewest} is above most {self.most}"


class Lengths(Section):
    """Shorter trainings, of which the best trials go on to the next length. keys: what is shortened. shares: of their
    values, the shortest first."""

    keys: tuple[str, ...] = ()
    shares: tuple[Fraction, ...] = ()

    def refusals(self) -> Iterator[str]:
        if list(self.shares) != sorted(set(self.shares)) or bool(self.keys) != bool(self.shares):
            yield f"keys {self.keys}, shares {self.shares}: both are needed, and each share above the one before it"


class Long(Section):
    """A longer training, at which a rung must hold, too. keys: what is longer. factor: of their values."""

    keys: Annotated[tuple[str, ...], Field(min_length=1)]
    factor: Annotated[float, Field(gt=1, le=10_000)]


class Range(Section):
    """low, high: the ends of what is tried; whole numbers if both are. log: whether by its logarithm."""

    low: int | float
    high: int | float
    log: bool = False

    def refusals(self) -> Iterator[str]:
        if self.low > self.high or (self.log and self.low <= 0):
            yield f"low {self.low}, high {self.high}: low must be the smaller one, and above 0 with log"


def _axis(value: Any) -> Any:
    if value == BUDGET:
        return value
    if isinstance(value, dict):
        return Range.model_validate(value)
    if not isinstance(value, tuple) or not value or any(isinstance(each, tuple | dict) for each in value):
        raise ValueError(f"allowed: a list of values, {{low, high, log}} or {BUDGET}")
    return value


Axis: TypeAlias = Annotated[Any, PlainValidator(_axis)]  # a list of values, a Range, or BUDGET


class Climbable(Section):
    """error: the share of false rungs, over the whole life of the ladder. space: what a search may vary: a key ->
    values, a Range, or BUDGET for train.steps. ideas: changes of the base with which it begins. lengths: of its
    trials. long: how much longer what is accepted is then tried."""

    error: Fraction = 0.05
    seeds: SeedRange = SeedRange()
    space: dict[str, Axis] = Field(default={})
    ideas: tuple[dict[str, Any], ...] = ()
    lengths: Lengths = Lengths()
    long: Long | None = None

    def rules(self, *but: str) -> dict[str, Any]:
        """What must stay the same while it is climbed, but for these keys."""
        unset = () if self.long else ("long",)  # which the first ladders do not have
        return self.model_dump(mode="json", exclude={*but, *SEARCHED, *unset})
