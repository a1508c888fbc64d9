"""The pickled batches of CIFAR-10 and CIFAR-100 (cs.toronto.edu/~kriz/cifar.html)."""

import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.sources.dataset import Records
from ddpm.sources.published import Published

ROW = 3 * 32 * 32
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

    def read(self, raw: Path) -> Records:
        self.verify(raw)  # before unpickling
        splits = {}
        for split, files in self.batches.items():
            batches = [self._read_batch(raw / file) for file in files]
            images = np.concatenate([rows for rows, _ in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            splits[split] = (images, np.concatenate([labels for _, labels in batches]))
        (classes,) = _contents(raw / self.meta, self.class_key)
        return Records.of_arrays(splits, tuple(map(str, classes)))

    def _read_batch(self, path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        data, numbers = _contents(path, "data", self.label_key)
        try:
            images, labels = np.asarray(data), np.asarray(numbers, dtype=np.int64)
        except (OverflowError, TypeError, ValueError) as error:
            raise UserError(f"{path}: its images or labels are not numbers ({error}); not a batch") from error
        if images.dtype != np.uint8 or images.shape != (labels.size, ROW) or labels.ndim != 1:
            raise UserError(f"{path}: holds {images.dtype} {images.shape} images and {labels.size} labels; not a batch")
        return images, labels


class _ArraysOnly(pickle.Unpickler):
    """Builds only what a batch needs, arrays of numbers, and refuses anything else that the pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # its name when the batches were made
        if (module, name) in ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _contents(path: Path, *keys: str) -> list[Any]:
    """The values of ``keys`` in a verified batch. Raises UserError when one is missing, or if the batch holds anything
    other than numbers, text and arrays."""
    try:
        with path.open("rb") as handle:
            batch = _ArraysOnly(handle, encoding="latin1").load()
    except Exception as error:  # crafted bytes can make the reader raise anything
        raise UserError(f"{path}: refused, not a CIFAR batch ({str(error) or type(error).__name__})") from error
    if not isinstance(batch, dict) or not batch.keys() >= set(keys):
        raise UserError(f"{path}: refused, not a CIFAR batch (it has no {' and '.join(keys)})")
    return [batch[key] for key in keys]
