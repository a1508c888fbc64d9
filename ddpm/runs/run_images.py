"""The images that a run drew: in the working folder, or in DVC's cache."""

import io
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.images import digest
from ddpm.base.paths import SAMPLES
from ddpm.runs.library import WORKSPACE
from ddpm.runs.record import Record
from ddpm.sampling.samples import set_paths

PATH = SAMPLES / "samples.npy"


def samples(run: Record) -> NDArray[np.uint8]:
    """The first set, uint8 (N, C, H, W), of the working folder or of a DVC experiment. Raises UserError unless the sets
    kept there are the run's: others may have given a record its name."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.repo.data import DataIndexDirError
    from dvc.scm import SCMError, map_scm_exception

    try:
        with map_scm_exception():
            kept = None if run.name == WORKSPACE else DVCFileSystem(rev=run.name)
            paths = set_paths(SAMPLES, run.params.get("sample.seeds", [0])).values()
            contents = (path.read_bytes() if kept is None else kept.read_bytes(str(path)) for path in paths)
            sets = [read_images(io.BytesIO(content)) for content in contents]
        if digest(sets) != run.samples:
            raise ValueError("images of another run")
        return sets[0]
    except (OSError, DvcException, SCMError, DataIndexDirError, TypeError, ValueError) as error:
        fix = "`dvc repro` makes it" if run.name == WORKSPACE else "`dvc pull` it, or run the experiment again"
        raise UserError(f"{run.name}: {PATH} is not kept here; {fix}") from error


def read_images(file: IO[bytes]) -> NDArray[np.uint8]:
    """An .npy of uint8 (N, C, H, W). Raises ValueError."""
    images: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"{images.dtype} {images.shape}")
    return images
