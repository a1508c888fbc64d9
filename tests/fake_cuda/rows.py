"""Few rows in which every variant occurs."""

from __future__ import annotations

import random
from functools import cache

from tests.test_combinations import SHELVES, Row, is_allowed

# one of each network: all DINOv2s are one
EXTRACTORS = ("classifier", "clip", "dinov2_vits14", "inception", "random_conv", "vgg16")


@cache
def rows() -> list[Row]:
    found: list[Row] = []
    chance = random.Random(1)  # noqa: S311 (it only chooses what is tested)
    left = {(family, name) for family, shelf in SHELVES.items() for name in shelf}
    while left:
        first = min(left, key=str)
        tries = ({family: chance.choice(shelf) for family, shelf in SHELVES.items()} | dict([first]) for _ in range(60))
        row = max(filter(is_allowed, tries), key=lambda row: len(left & set(row.items())))
        found.append(row)
        left -= set(row.items())
    return found
