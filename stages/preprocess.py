"""data/raw -> data/processed: uint8 arrays of images of one size, split into train and test."""

from ddpm.base.errors import plural
from ddpm.base.paths import PROCESSED, RAW
from ddpm.data.data_params import Data
from ddpm.data.preprocessing import preprocess


def main(data: Data) -> None:
    manifest = preprocess(data, RAW, PROCESSED)
    picture = PROCESSED / "dataset.png"
    classes = plural(len(manifest.classes), "class", "classes")
    print(f"{manifest.dataset}: {manifest.count_text()} images, {classes}; see {picture}")
