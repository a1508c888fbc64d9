"""data.source -> data/raw: the dataset's published files, verified."""

from ddpm.base.paths import RAW
from ddpm.sources.dataset import Dataset


def main(dataset: Dataset, source: str | None) -> None:
    dataset.download(source, RAW)
