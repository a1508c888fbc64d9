"""The pickled batches of CIFAR-10 and CIFAR-100 (cs.toronto.edu/~kriz/cifar.html)."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ddpm.base.errors import UserError
from ddpm.sources.dataset import Originals
from ddpm.sources.published import Published

ALLOWED = {("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


class CifarDataset(Published):
    """Batches of 32x32 RGB images, each a row of 3,072 bytes, planes first.

    batches: the files of each split; meta: the file with the class names; label_key, class_key: keys in the pickles.
    """

    licence = "its authors state none"
    batches: ClassVar[dict[str, tuple[str, ...]]]
    meta: ClassVar[str]
    label_key: ClassVar[str]
    class_key: ClassVar[str]

    def read(self, raw: Path) -> Originals:
        self.verify(raw)  # before unpickling
        splits = {}
        for split, files in self.batches.items():
            batches = [_contents(raw / file) for file in files]
            images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            splits[split] = (images, np.concatenate([batch[self.label_key] for batch in batches]))
        return Originals.of_arrays(splits, tuple(_contents(raw / self.meta)[self.class_key]))


class _ArraysOnly(pickle.Unpickler):
    """Builds only what a batch needs, arrays of numbers, and refuses anything else that the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # its name when the batches were made
        if (module, name) in ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _contents(path: Path) -> dict[str, Any]:
    """A verified batch. Raises UserError if it holds anything other than numbers, text and arrays."""
    try:
        with path.open("rb") as handle:
            batch: dict[str, Any] = _ArraysOnly(handle, encoding="latin1").load()
    except Exception as error:  # crafted bytes can make the reader raise anything
        raise UserError(f"{path}: refused, not a CIFAR batch ({str(error) or type(error).__name__})") from error
    return batch
