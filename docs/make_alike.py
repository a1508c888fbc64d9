"""``python -m docs.make_alike`` prints the table of docs/concepts.md: what compared runs have to share."""

from __future__ import annotations

from ddpm.base.sections import Affects
from ddpm.params.config import AFFECTS, affects
from ddpm.referee.pairing import ALIKE
from ddpm.report import render
from ddpm.report.blocks import Chapter, Table

ROWS = {
    Affects.NOTHING: ("nothing", "may differ"),
    Affects.ROUNDING: ("rounding", "may differ"),
    Affects.LEARNED: ("the weights", "equal, except the keys under comparison and `seed`, which pairs the runs"),
    Affects.DRAWN: ("the samples", "equal, except the keys under comparison"),
    Affects.SCORED: ("the scores", "equal, also for another program's samples"),
}
FACTS = [
    "(facts, not keys)",
    ", ".join(name.replace("_", " ") for name in ALIKE),
    "equal, unless `may_differ` names it",
]


def table() -> str:
    """A row for each mark, with the keys that have it, of which a section stands for all in it that have no other."""
    own = {key: mark for key, mark in AFFECTS.items() if "." not in key or mark != affects(key.rpartition(".")[0])}
    rows = []
    for what, (name, rule) in ROWS.items():
        keys = sorted(key for key, mark in own.items() if (what in mark if what else not mark))
        rows.append([name, ", ".join(f"`{key}`" for key in keys), rule])
    heads = ["affects", "keys of params.yaml", "in compared runs"]
    return render.markdown([Chapter("", [Table(heads, [*rows, FACTS], text_columns=range(3))])])


if __name__ == "__main__":
    print(table())
