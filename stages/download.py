"""data.source -> data/raw: the dataset's published files, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm.base.paths import RAW

if TYPE_CHECKING:
    from ddpm.data.settings import Data


def main(data: Data) -> None:
    data.dataset.download(data.source, RAW)
