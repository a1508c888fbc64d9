"""What the scores notice on this data, if ``ddpm sanity`` measured it."""

from __future__ import annotations

from ddpm.compare import sanity as measured
from ddpm.pages.parts import Figure, Note, Part, Table, data_uri


def sanity() -> list[Part]:
    """The table of damages, what follows from it, and a picture of the damages."""
    found = measured.read()
    heads, *rows = measured.table(found)
    table = Table(heads, rows, f"{measured.title(found)}. {measured.explanation(found)}", text_columns=(0,))
    shown = "The damages to the images themselves: real test images, and below them each damage to the same images."
    pictures = [Figure(shown, data_uri(measured.PICTURE.read_bytes()), wide=True)] if measured.PICTURE.exists() else []
    return [table, *map(Note, measured.findings(found)), *pictures]
