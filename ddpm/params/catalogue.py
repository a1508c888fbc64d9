"""What there is to choose from, read from the variants themselves."""

from __future__ import annotations

import ast
import textwrap

from ddpm.base import variant
from ddpm.base.settings import FAMILIES

# params key -> the folder of ddpm/variants/ that holds what can be chosen there
SHELVES = {**FAMILIES, "model": "networks", "evaluate.extractors": "extractors", "evaluate.metrics": "metrics"}


def members(family: str) -> dict[str, str]:
    """Name -> the first paragraph of the docstring of each file in the family, as one line; imports nothing."""
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
