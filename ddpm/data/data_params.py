"""The ``data`` section of params.yaml."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import InstanceOf, NonNegativeInt

from ddpm.base.sections import Affects, Fraction, ImageShape
from ddpm.base.variant import Family
from ddpm.sources.dataset import Dataset

Resize = Literal["squash", "crop"]


class Data(ImageShape):
    """What the model learns from, and how each image is brought to ``image_size`` and ``channels``."""

    dataset: Annotated[InstanceOf[Dataset], Family("datasets")]
    source: Annotated[str | None, Affects.NOTHING] = None
    resize: Resize = "crop"
    test_fraction: Fraction = 0.1
    split_seed: NonNegativeInt = 0
    on_error: Literal["fail", "skip"] = "fail"

    def refusals(self) -> Iterator[str]:
        yield from self.dataset.refusals(self.shape)
