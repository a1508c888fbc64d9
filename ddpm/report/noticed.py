"""What each score notices of damage to real images, as blocks."""

from __future__ import annotations

from functools import partial

from ddpm.report.blocks import Block, Table, chapter, picture
from ddpm.scoring.metric import DAMAGE, HARMLESS
from ddpm.verdicts.sensitivity import BLIND, PICTURE, Sanity

SEES = 0.9  # of the pairs of a damaged and a whole set, those in which the damaged one scores worse


def show_sanity(sanity: Sanity) -> list[Block]:
    """A table with a row for each score and a column for each damage, and a picture of the damages."""
    damages = [damage for damage in DAMAGE if any(damage in row.noticed for row in sanity.scores.values())]
    rows = [
        (name, f"{row.whole:.4g}", *(_cell(damage, row.noticed.get(damage)) for damage in damages))
        for name, row in sanity.scores.items()
    ]
    caption = (
        f"What each score notices in {sanity.sets} sets of {sanity.images:,} real test images. In parentheses: of the "
        "pairs of a damaged and a whole set, the share in which the damaged one scores worse. "
        f"sees: at least {SEES:g}; blind: below {BLIND:g}; misled: at most {1 - SEES:.1f}: damage passes for progress."
    )
    table = Table(["score", "whole", *(DAMAGE[damage].head for damage in damages)], rows, caption)
    shown = "real test images, and below them each damage to the same images"
    draw = partial(picture, shown, "sanity", PICTURE, "`ddpm sanity` makes it")
    return [table, *chapter("", lambda: [draw()] if PICTURE.exists() else []).blocks]


def verdict(worse: float) -> str:
    """``sees``, ``partly`` or ``blind``; ``misled`` if damage is taken for an improvement."""
    if worse >= SEES:
        return "sees"
    return "misled" if worse <= 1 - SEES else "partly" if worse >= BLIND else "blind"


def _cell(damage: str, worse: float | None) -> str:
    if worse is None:
        return "-"
    word = verdict(worse)
    if damage == HARMLESS:  # fewer images: nothing that a score should see
        word = "moves" if word in ("sees", "misled") else "steady"
    return f"{word} ({worse:.2f})"
