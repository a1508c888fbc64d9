"""Of which class each image is drawn: a function of the image's index alone, the same in every set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import gcd
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ddpm.base.errors import UserError
from ddpm.base.sections import Section, parse
from ddpm.model.model_file import Loaded
from ddpm.sampling.sample_params import class_number

Count = Annotated[int, Field(ge=0, lt=2**40)]


class _Names(Section):
    """A model file's ``classes`` fact: the names, and how many train images were of each."""

    names: tuple[str, ...]
    counts: tuple[Count, ...]


class Classes:
    """names: of the model's classes, none if it does not say. ``cycle``: numbers to draw in turn; None: by shares."""

    def __init__(self, names: Sequence[str], counts: Sequence[int], cycle: Sequence[int] | None = None):
        self.names = names
        self.cycle = cycle
        self.drawn: list[int] = []
        self.more = itertools.cycle(apportion(counts))

    @classmethod
    def of(cls, model: Loaded, classes: Sequence[int | str] | None) -> Classes | None:
        """For ``sample.classes``; None for a model without classes. Raises UserError if it has no such class."""
        count = model.config.model.classes
        if not count:
            if classes is not None:
                raise UserError("sample.classes: the model has no classes; leave it at null")
            return None
        names, counts = read_names(model)
        cycle = None if classes is None else [class_number(one, names, count) for one in classes]
        return cls(names, counts, cycle)

    def __call__(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """(B,) the classes of the images ``indices``."""
        if self.cycle is not None:
            return np.array([self.cycle[index % len(self.cycle)] for index in indices], np.int64)
        self.drawn += itertools.islice(self.more, max(0, max(indices, default=-1) + 1 - len(self.drawn)))
        return np.array([self.drawn[index] for index in indices], np.int64)

    def name(self, number: int) -> str:
        """The class's name, or its number if the model has no names."""
        return self.names[number] if self.names else str(number)


def read_names(model: Loaded) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The names and counts in a model file; a file that does not say has no names, and equal counts."""
    count = model.config.model.classes
    if "classes" not in model.facts:
        return (), (1,) * count
    facts = parse(model.facts["classes"], "model file: facts.classes", _Names)
    if not len(facts.names) == len(facts.counts) == count or not any(facts.counts):
        raise UserError(
            f"model file: facts.classes: {len(facts.names)} names and {len(facts.counts)} counts for {count} classes; "
            "allowed: one of each a class, and not all counts 0"
        )
    return facts.names, facts.counts


def apportion(counts: Sequence[int]) -> Iterator[int]:
    """Classes in proportion to ``counts``, until they come out even: among the first n, the number of each class is
    within 1 of its share.

    Balinski & Young 1975, "The quota method of apportionment": the next is the class with the fewest so far for its
    size, of those below their share.
    """
    sizes = np.array(counts, np.int64) // gcd(*counts)
    total = int(sizes.sum())
    drawn = np.zeros_like(sizes)
    for place in range(1, total + 1):
        below = drawn * total < sizes * place
        priority = np.where(below, (drawn + 1) / np.maximum(sizes, 1), np.inf)
        label = int(priority.argmin())
        drawn[label] += 1
        yield label
