"""data.source -> data/raw: the dataset's files as they were published, verified."""

from __future__ import annotations

from ddpm.base.paths import RAW
from ddpm.params.config import Config
from ddpm.params.inputs import Start
from stages import run


def main(config: Config, start: Start) -> None:
    config.data.dataset.download(config.data.source, RAW)


if __name__ == "__main__":
    run("download", main)
