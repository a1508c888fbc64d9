"""The 1,797 handwritten digits that scikit-learn ships, 8x8 with gray levels 0..16. Alpaydin, Kaynak 1998."""

from importlib.metadata import files
from pathlib import Path

import numpy as np

from ddpm.sources.dataset import Dataset, Originals
from ddpm.sources.fetch import check_source

PUBLISHED = "sklearn/datasets/data/digits.csv.gz"  # to import scikit-learn takes longer than all else of the stage
FILE = "digits.npz"
LEVELS = 16


class Digits(Dataset):
    packaged = True
    licence = "CC BY 4.0 (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI, 1998)"

    def fetch(self, source: str | None, folder: Path) -> None:
        check_source(self, source)
        published = next(path for path in files("scikit-learn") or () if path.match(PUBLISHED))
        rows = np.loadtxt(str(published.locate()), delimiter=",").astype(np.int64)
        np.savez(folder / FILE, images=rows[:, :-1].reshape(-1, 8, 8).astype(np.uint8), labels=rows[:, -1])

    def read(self, raw: Path) -> Originals:
        with np.load(raw / FILE, allow_pickle=False) as digits:
            images, labels = digits["images"], digits["labels"]
        scaled = np.round(images * (255 / LEVELS)).astype(np.uint8)
        return Originals.of_arrays({"digits": (scaled, labels)}, tuple("0123456789"))
