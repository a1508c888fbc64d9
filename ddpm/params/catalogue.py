"""What there is to choose from, read from the variants themselves."""

from __future__ import annotations

import textwrap

from ddpm.base import sections, variant
from ddpm.params.config import Config

FAMILIES = sections.families(Config)  # params key -> the folder of ddpm/variants/ that holds what can be chosen there


def listing() -> str:
    """Every family with its params key, and every member with its description and paper."""
    lines = []
    for key, family in FAMILIES.items():
        lines.append(f"{key}  (ddpm/variants/{family}/)")
        for name, description in variant.members(family).items():
            lines += textwrap.wrap(description, 118, initial_indent=f"  {name:20} ", subsequent_indent=" " * 23)
    return "\n".join(lines)
