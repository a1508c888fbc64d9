"""The images that a run drew: in the working folder, or in DVC's cache."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.base.paths import SAMPLES
from ddpm.runs.library import WORKSPACE
from ddpm.runs.record import Record

PATH = SAMPLES / "samples.npy"


def samples(run: Record) -> NDArray[np.uint8]:
    """uint8 (N, C, H, W), of the working folder or of a DVC experiment. Raises UserError if they are not kept here."""
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.repo.data import DataIndexDirError
    from dvc.scm import SCMError, map_scm_exception

    try:
        with map_scm_exception():
            here = run.name == WORKSPACE
            content = Path(PATH).read_bytes() if here else DVCFileSystem(rev=run.name).read_bytes(str(PATH))
        return read_images(io.BytesIO(content))
    except (OSError, DvcException, SCMError, DataIndexDirError, ValueError) as error:
        fix = "`dvc repro` makes it" if run.name == WORKSPACE else "`dvc pull` it, or run the experiment again"
        raise UserError(f"{run.name}: {PATH} is not kept here; {fix}") from error


def read_images(file: IO[bytes]) -> NDArray[np.uint8]:
    """An .npy of uint8 (N, C, H, W). Raises ValueError."""
    images: NDArray[np.uint8] = np.lib.format.read_array(file, allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ValueError(f"{images.dtype} {images.shape}")
    return images
