"""What ``ddpm check`` reports about the time and the memory of the next run."""

import math

import pytest

from ddpm.tools import forecast
from ddpm.tools.forecast import Measured
from tests.small import small

MEASURED = Measured(step=0.5, memory=2**30, device="cpu (1 thread)")
SAMPLE = {"count": 1000, "steps": 5}
EPOCHS = {"steps": None, "epochs": 3}


@pytest.mark.parametrize(("sections", "images", "train", "passes"), [
    ({"train": {"steps": 100}, "sample": SAMPLE}, None, 50, 1000 * 5),
    ({"train": {"steps": 200}, "sample": SAMPLE | {"seeds": (0, 1)}}, None, 100, 2000 * 5),
    ({"train": {"steps": 100, "snapshots": [8, 16]}, "sample": SAMPLE}, None, 50, 3000 * 5),
    ({"train": {"steps": 100}, "sample": SAMPLE | {"sampler": {"name": "heun"}}}, None, 50, 1000 * 9),
    ({"train": EPOCHS, "sample": SAMPLE}, 20, math.ceil(3 * 20 / 8) * 0.5, 1000 * 5),
    ({"train": EPOCHS, "sample": SAMPLE}, None, 3 * 125 * 0.5, 1000 * 5),  # epochs of 1,000 images
])  # fmt: skip
def test_what_there_is_more_of_takes_longer(sections, images, train, passes):
    """A training step of 8 images takes 0.5 s."""
    sample = passes * 0.5 / 8 / forecast.STEPS
    assert forecast.predict(small(**sections), MEASURED, images)[2:] == pytest.approx((train, sample))
