"""The files of a run, wherever they are kept: in the working folder, or in git and DVC's cache."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ddpm.errors import UserError
from ddpm.results import Result

WORKSPACE = "workspace"
MLFLOW = "mlflow"


class Revision:
    """A run's files. name: of an experiment, a git revision, or ``workspace``.

    Each method raises UserError when the file is not kept, or is not what it should be.
    """

    def __init__(self, name: str, source: str):
        self.name = name
        self.source = source

    @classmethod
    def of(cls, run: Result) -> Revision:
        return cls(run.name, run.source)

    @cached_property
    def _opener(self) -> Callable[[str, str], Any]:
        if self.source == WORKSPACE:
            return open
        from dvc.api import DVCFileSystem

        opener: Callable[[str, str], Any] = DVCFileSystem(rev=self.name).open
        return opener

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """From DVC's remote where the cache lacks it."""
        from dvc.exceptions import DvcException
        from dvc.scm import SCMError

        if self.source == MLFLOW:
            raise UserError(f"{self.name}: only MLflow has this run, and {path} is not there; run it here to see it")
        try:
            with self._opener(path, "rb") as file:
                yield file
        except (OSError, DvcException, SCMError) as error:
            mend = "`dvc repro` makes it" if self.source == WORKSPACE else "`dvc pull` it, or run the experiment again"
            raise UserError(f"{self.name}: {path} is not kept here; {mend}") from error

    def first_images(self, path: str, count: int) -> NDArray[np.uint8]:
        """The first ``count`` of an .npy of uint8 (N, C, H, W); the rest is not read."""
        with self.open(path) as file:
            try:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, fortran, dtype = read[version](file)
                if dtype != np.uint8 or len(shape) != 4 or fortran:
                    raise ValueError(f"{dtype} {shape}")
                shape = (min(count, shape[0]), *shape[1:])
                return np.frombuffer(file.read(math.prod(shape)), np.uint8).reshape(shape)
            except (KeyError, ValueError) as error:
                raise UserError(
                    f"{self.name}: {path} holds no images ({error}); `dvc repro -f sample` there"
                ) from error

    def columns(self, path: str, *names: str) -> NDArray[np.float64]:
        """(rows, names) of a CSV file; NaN where a field is empty."""
        with self.open(path) as file:
            rows = csv.DictReader(io.StringIO(file.read().decode(errors="replace")))
            try:
                values = [[float(row[name] or "nan") for name in names] for row in rows]
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.name}: {path} has no numbers in {', '.join(names)}; `dvc repro` there"
                ) from error
        if not values:
            raise UserError(f"{self.name}: {path} has no rows: evaluate.likelihood may be off, or images too few")
        return np.array(values)
