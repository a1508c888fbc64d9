"""data/raw -> data/processed: uint8 arrays of one size, split into train and test."""

from __future__ import annotations

from ddpm.config import Config
from ddpm.inputs import Start
from ddpm.paths import PROCESSED, RAW
from ddpm.preprocessing import preprocess
from stages import run


def main(config: Config, start: Start) -> None:
    manifest = preprocess(config.data, RAW, PROCESSED)
    picture = PROCESSED / "dataset.png"
    classes = f"{len(manifest.classes)} class{'es' * (len(manifest.classes) != 1)}"
    print(f"{manifest.dataset}: {manifest.counted()} images, {classes}; see {picture}")


if __name__ == "__main__":
    run("preprocess", main)
