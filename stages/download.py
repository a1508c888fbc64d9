"""data.source -> data/raw: the dataset's files as they were published, verified."""

from __future__ import annotations

from ddpm.config import Config
from ddpm.inputs import Start
from ddpm.paths import RAW
from stages import run


def main(config: Config, start: Start) -> None:
    config.data.dataset.download(config.data.source, RAW)


if __name__ == "__main__":
    run("download", main)
