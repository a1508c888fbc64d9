"""data/raw -> data/processed: uint8 arrays of one size, split into train and test."""

from __future__ import annotations

from ddpm.base.paths import PROCESSED, RAW
from ddpm.data.preprocessing import preprocess
from ddpm.params.config import Config
from ddpm.params.inputs import Start
from stages import run


def main(config: Config, start: Start) -> None:
    manifest = preprocess(config.data, RAW, PROCESSED)
    picture = PROCESSED / "dataset.png"
    classes = f"{len(manifest.classes)} class{'es' * (len(manifest.classes) != 1)}"
    print(f"{manifest.dataset}: {manifest.counted()} images, {classes}; see {picture}")


if __name__ == "__main__":
    run("preprocess", main)
