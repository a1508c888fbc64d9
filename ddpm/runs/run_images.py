"""The images that the working folder's run drew."""

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.files import open_array
from ddpm.base.images import digest
from ddpm.base.paths import SAMPLES
from ddpm.runs.record import Record
from ddpm.sampling.samples import set_paths

PATH = SAMPLES / "samples.npy"


def samples(run: Record) -> NDArray[np.uint8]:
    """The first set, uint8 (N, C, H, W). Raises UserError unless the sets that lie here are the run's."""
    sets = [open_array(path) for path in set_paths(SAMPLES, run.params.get("sample.seeds", [0])).values()]
    if digest(sets) != run.samples:
        raise UserError(f"{PATH}: not the images of {run.name}; `dvc repro` makes them")
    first: NDArray[np.uint8] = sets[0]
    return first
