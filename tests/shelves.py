"""What can be chosen, and small configs that choose it."""

import random
from itertools import combinations, islice, product
from typing import Any, get_args

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.params.config import Config
from ddpm.sampling.sample_params import Spacing
from tests.networks import SMALL
from tests.small import PARAMS, small

SHELVES: dict[str, list[Any]] = {
    "schedule": variant.names("schedules"), "parameterization": variant.names("parameterizations"),
    "loss": variant.names("losses"), "variance": variant.names("variances"), "network": variant.names("networks"),
    "timestep_sampler": variant.names("timestep_samplers"), "ema": variant.names("emas"),
    "optimizer": variant.names("optimizers"), "augmentation": variant.names("augmentations"),
    "sampler": variant.names("samplers"), "spacing": list(get_args(Spacing)), "classes": [0, 3], "weight": [1.0, 2.0],
}  # fmt: skip
NETWORKS = {name: shapes[0] for name, shapes in SMALL.items()} | {"unet": PARAMS["model"]["unet"]}
TRIES = 300  # to complete a choice with variants that are allowed next to it
CHOICE = 6  # allowed rows to choose the best of: more make fewer rows in more time
STEPS = 40  # within which the loss has to fall; most rows take eight

Row = dict[str, Any]


def config_of(row: Row) -> Config:
    """Raises UserError if params.yaml may not say so."""
    training: Row = {"steps": STEPS, "batch_size": 8, "learning_rate": 3e-3, "gradient_clip": 1.0}
    training |= {family: {"name": row[family]} for family in ("timestep_sampler", "ema", "optimizer", "augmentation")}
    sampler, guidance = {"name": row["sampler"]}, {"weight": row["weight"]}
    drawn = {"sampler": sampler, "steps": 6, "spacing": row["spacing"], "count": 3, "guidance": guidance}
    return small(
        diffusion={family: {"name": row[family]} for family in ("schedule", "parameterization", "loss", "variance")},
        model={"name": row["network"], row["network"]: NETWORKS[row["network"]], "classes": row["classes"]},
        train=training,
        sample=drawn,
    )


def is_allowed(row: Row) -> bool:
    try:
        config_of(row)
    except UserError:
        return False
    return True


def covering_rows(at_once: int = 1, seed: int = 1) -> tuple[list[Row], list[frozenset]]:
    """Few allowed rows with every variant, or every pair of them, that any allowed row has; and those that none has."""
    few, never, chance = [], [], random.Random(seed)  # noqa: S311 (it only chooses what is tested)
    left = {
        frozenset(zip(families, names, strict=True)): None
        for families in combinations(SHELVES, at_once)
        for names in product(*(SHELVES[family] for family in families))
    }
    while left:
        first = next(iter(left))
        tries = ({name: chance.choice(shelf) for name, shelf in SHELVES.items()} | dict(first) for _ in range(TRIES))
        allowed = list(islice(filter(is_allowed, tries), CHOICE))
        if not allowed:
            never.append(first)
            del left[first]
            continue
        few.append(max(allowed, key=lambda row: sum(each in left for each in parts(row, at_once))))
        for each in parts(few[-1], at_once):
            left.pop(each, None)
    return few, never


def parts(row: Row, at_once: int) -> list[frozenset]:
    return [frozenset(each) for each in combinations(row.items(), at_once)]
