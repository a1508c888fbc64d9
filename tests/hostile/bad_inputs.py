"""All bad inputs, and the page that lists them."""

from __future__ import annotations

from collections.abc import Sequence

from tests.hostile import archives, arrays, metrics, numbers, packed, params, pictures, sources, weights
from tests.hostile.case import Case, Outcome

CASES: list[Case] = [
    case
    for module in (params, archives, packed, pictures, arrays, weights, metrics, sources, numbers)
    for case in module.CASES
]
HEAD = """# Bad inputs

What the project prints for malicious or meaningless input. Each case ends with exit code 2 and this one line on stderr,
takes at most 1 GiB of memory, and leaves no result. `python -m tests.hostile` writes this page;
tests/hostile/test_bad_inputs.py runs each case and checks that it is listed here.
"""
WIDEST = 300


def document(cases: Sequence[Case], outcomes: Sequence[Outcome]) -> str:
    """The page as Markdown, a table for each group."""
    parts = [HEAD, f"\n{len(cases)} inputs.\n"]
    group = None
    for case, outcome in zip(cases, outcomes, strict=True):
        if case.group != group:
            group = case.group
            parts.append(f"\n## {group}\n\n| input | line |\n| --- | --- |\n")
        parts.append(row(case, outcome.line))
    return "".join(parts)


def row(case: Case, line: str) -> str:
    shown = line if len(line) <= WIDEST else f"{line[:WIDEST]}..."
    return f"| {case.name} | {_code(shown)} |\n"


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    pad = " " if "`" in text else ""
    return f"{ticks}{pad}{text.replace('|', chr(92) + '|')}{pad}{ticks}"
