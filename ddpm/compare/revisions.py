"""The files of a run, wherever they are kept: in the working folder, or in git and DVC's cache."""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm.base.errors import UserError
from ddpm.compare import snapshots
from ddpm.runs.library import WORKSPACE


class Revision(NamedTuple):
    """Reads a run's files. name: an experiment's, a git revision, or ``workspace``. commit: its id, if known: what git
    has of it is then read without DVC, which takes 0.05 s of a core to open.

    Each method raises UserError if the file is not kept or is damaged.
    """

    name: str
    source: str
    commit: str = ""

    def read(self, path: str) -> io.BytesIO:
        """The file's bytes: git's, else DVC's, from its remote if the cache does not have them."""
        if self.commit and (content := snapshots.content(self.commit, path)) is not None:
            return io.BytesIO(content)
        from dvc.api import DVCFileSystem
        from dvc.exceptions import DvcException
        from dvc.repo.data import DataIndexDirError
        from dvc.scm import SCMError, map_scm_exception

        if self.source == "mlflow":
            raise UserError(f"{self.name}: only MLflow has this run, and {path} is not there; run it here to see it")
        here, revision = self.source == WORKSPACE, self.commit or self.name
        try:
            with map_scm_exception():
                return io.BytesIO(Path(path).read_bytes() if here else DVCFileSystem(rev=revision).read_bytes(path))
        except (OSError, DvcException, SCMError, DataIndexDirError) as error:
            fix = "`dvc repro` makes it" if here else "`dvc pull` it, or run the experiment again"
            raise UserError(f"{self.name}: {path} is not kept here; {fix}") from error

    def images(self, path: str) -> NDArray[np.uint8]:
        """An .npy of uint8 (N, C, H, W)."""
        try:
            images: NDArray[np.uint8] = np.lib.format.read_array(self.read(path), allow_pickle=False)
            if images.dtype != np.uint8 or images.ndim != 4:
                raise ValueError(f"{images.dtype} {images.shape}")
        except ValueError as error:
            raise UserError(
                f"{self.name}: {path} is not a file of images ({error}); `dvc repro -f sample` there"
            ) from error
        return images

    def columns(self, path: str, *names: str) -> NDArray[np.float64]:
        """(rows, names) of a CSV file, float64; NaN if a field is empty."""
        import pandas as pd

        try:
            values = pd.read_csv(self.read(path))[list(names)].to_numpy(float)
        except (KeyError, ValueError) as error:
            raise UserError(f"{self.name}: {path} has no numbers in {', '.join(names)}; `dvc repro` there") from error
        if not len(values):
            raise UserError(f"{self.name}: {path} has no rows: evaluate.likelihood may be off, or images too few")
        return values
