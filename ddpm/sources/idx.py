"""The idx format of MNIST and similar datasets (yann.lecun.com/exdb/mnist), read by torchvision."""

from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from ddpm.sources.dataset import Originals
from ddpm.sources.published import Published


class IdxDataset(Published):
    """Four idx files: the images, 28x28 gray, and labels of 60,000 train and 10,000 test examples."""

    packing = ".gz"
    classes: ClassVar[tuple[str, ...]]

    def read(self, raw: Path) -> Originals:
        from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor

        self.verify(raw)  # torchvision trusts what the header announces

        def split(prefix: str) -> tuple[NDArray[Any], NDArray[Any]]:
            images, labels = (
                read_sn3_pascalvincent_tensor(str(raw / f"{prefix}-{file}-ubyte")).numpy()
                for file in ("images-idx3", "labels-idx1")
            )
            return images, labels

        return Originals.of_arrays({"train": split("train"), "test": split("t10k")}, self.classes)
