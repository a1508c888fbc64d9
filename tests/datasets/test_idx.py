from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra import numpy as hnp

from ddpm.base.errors import UserError
from ddpm.sources.idx import read_idx

quick = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@quick
@given(array=arrays)
def test_reads_what_was_written(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(array)))
    np.testing.assert_array_equal(read_idx(path, array.ndim), array)


def test_trailing_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(3, dtype=np.uint8)) + b"more"))
    with pytest.raises(UserError, match="more than the 3 bytes"):
        read_idx(path, 1)
