"""What there is to choose from, and what goes together: read off the variants themselves."""

from __future__ import annotations

import ast
import itertools
import textwrap
from typing import NamedTuple

from ddpm.base import variant
from ddpm.base.settings import FAMILIES
from ddpm.diffusion.settings import Diffusion

# params key -> the folder of ddpm/variants/ that holds what can stand there
SHELVES = {**FAMILIES, "model": "networks", "evaluate.extractors": "extractors"}


class Combination(NamedTuple):
    """Names of variants of the ``diffusion`` section; ``reasons`` say why they are refused, none where they go."""

    parameterization: str
    loss: str
    variance: str
    zero_terminal_snr: bool
    reasons: tuple[str, ...]


def members(family: str) -> dict[str, str]:
    """Name -> the first paragraph of the docstring of each of the family's files, as one line; nothing is imported."""
    folder = variant.PACKAGE / family
    docs = {name: ast.get_docstring(ast.parse((folder / f"{name}.py").read_text())) for name in variant.names(family)}
    return {name: " ".join((doc or "").split("\n\n")[0].split()) for name, doc in docs.items()}


def listing() -> str:
    """Every family with its params key, and every member with its description and paper."""
    lines = []
    for key, family in SHELVES.items():
        lines.append(f"{key}  (ddpm/variants/{family}/)")
        for name, description in members(family).items():
            lines += textwrap.wrap(description, 118, initial_indent=f"  {name:20} ", subsequent_indent=" " * 23)
    return "\n".join(lines)


def combinations() -> list[Combination]:
    """Every parameterization with every loss, variance and end of the schedule, as reading a config judges them."""
    families = ("parameterizations", "losses", "variances")
    found = []
    named = itertools.product(*map(variant.names, families))
    for names, zero_terminal_snr in itertools.product(named, (False, True)):
        parameterization, loss, variance = (
            variant.build(family, {"name": name}, family) for family, name in zip(families, names, strict=True)
        )
        schedule = {"name": "linear", "linear": {"zero_terminal_snr": zero_terminal_snr}}
        diffusion = Diffusion.model_construct(
            schedule=variant.build("schedules", schedule, "schedule"),
            parameterization=parameterization,
            variance=variance,
            loss=loss,
        )
        reasons = tuple(diffusion.refusals())
        found.append(Combination(parameterization.name, loss.name, variance.name, zero_terminal_snr, reasons))
    return found


def combinations_table() -> str:
    """``combinations`` in Markdown: a row per loss and variance, a column per parameterization, reasons as notes."""
    notes: dict[str, int] = {}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for found in combinations():
        row = rows.setdefault((found.loss, found.variance), {})
        if found.zero_terminal_snr and row[found.parameterization] != "yes":
            continue
        numbers = ", ".join(str(notes.setdefault(reason, len(notes) + 1)) for reason in found.reasons)
        refused = f"not with zero terminal SNR ({numbers})" if found.zero_terminal_snr else f"no ({numbers})"
        row[found.parameterization] = refused if found.reasons else "yes"
    names = variant.names("parameterizations")
    lines = [("loss", "variance", *names), ("---",) * (2 + len(names)), *((*key, *rows[key].values()) for key in rows)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*table, "", *(f"{number}. {reason}" for reason, number in notes.items())])
