"""An index of more vectors than a search can pass one by one: which few of them may be nearest to a query.

By faiss (Douze et al. 2024, arXiv:2401.08281), as in Jégou, Douze, Schmid 2011 (doi:10.1109/TPAMI.2010.57): vectors are
sorted into lists by the nearest of some centres, a query looks at the lists of the centres nearest to it, and there at
short codes. Here a code is KEPT principal components of 4 bits each: 72 bytes a vector with its number in the list. The
candidates are compared exactly by ``memorisation``.

An index is files of about PER_FILE vectors, NAME-00000.faiss, NAME-00001.faiss, ..., so that no more than one of them
is in memory at a time. faiss runs in one thread: its files have the same bytes on any number of cores and of ranks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

EXACT = 10**6  # train images: of more, there is an index
PER_FILE = 2**22  # vectors, about 300 MB
LISTS, PROBED = 1024, 32  # of each file
SEEN = 39  # vectors that a centre needs, as faiss counts
KEPT = 128  # components
WIDEST = 2048  # numbers of a vector that are looked at
SUFFIX = ".faiss"


def coarse(vectors: Tensor) -> NDArray[np.float32]:
    """(N, D) float32 of features, (N, D), or images, (N, C, H, W), whose sides are halved while D is above WIDEST, by
    means of their pixels: else their principal components would take hours."""
    found = vectors.float()
    while found.ndim == 4 and found[0].numel() > WIDEST and found[0, 0].numel() > 1:
        found = F.avg_pool2d(found, 2, ceil_mode=True)
    return found.flatten(1).cpu().numpy()


@contextmanager
def _one_thread() -> Iterator[Any]:
    """faiss, which counts threads for the whole process: torch's are the same."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield faiss
    finally:
        faiss.omp_set_num_threads(before)


class Writer:
    """Writes the index called ``name`` into ``folder``. seen: (M, D), a sample of what will be in it, as ``coarse``
    gives it."""

    def __init__(self, folder: Path, name: str, seen: NDArray[np.float32]):
        self.folder, self.name, self.files = folder, name, 0
        components, lists = min(KEPT, seen.shape[1]), max(1, min(LISTS, len(seen) // SEEN))
        with _one_thread() as faiss:
            self.index = faiss.index_factory(seen.shape[1], f"PCA{components},IVF{lists},SQ4")
            self.index.train(seen)
            faiss.extract_index_ivf(self.index).nprobe = PROBED

    def add(self, vectors: NDArray[np.float32]) -> None:
        """The next vectors, (N, D)."""
        with _one_thread():
            self.index.add(vectors)
        if self.index.ntotal >= PER_FILE:
            self._write()

    def close(self) -> None:
        if self.index.ntotal:
            self._write()

    def _write(self) -> None:
        with _one_thread() as faiss:
            faiss.write_index(self.index, str(self.folder / f"{self.name}-{self.files:05d}{SUFFIX}"))
        self.index.reset()
        self.files += 1


def files(folder: Path, name: str) -> tuple[Path, ...]:
    """The index called ``name``; empty if there is none."""
    return tuple(sorted(folder.glob(f"{name}-*{SUFFIX}")))


def candidates(index: Sequence[Path], queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The rows of about the ``count`` vectors nearest to each of (N, D) queries, (N, count), in no order; -1 where the
    whole index has fewer. queries: as ``coarse`` gives them."""
    first = 0
    rows: NDArray[np.int64] = np.empty((len(queries), 0), np.int64)
    distances: NDArray[np.float32] = np.empty((len(queries), 0), np.float32)
    for path in index:
        with _one_thread() as faiss:
            part = faiss.read_index(str(path))
            distance, row = part.search(queries, count)
            short = (row < 0).any(1)
            if short.any():  # the lists that these looked at are short
                lists = faiss.extract_index_ivf(part)
                lists.nprobe = lists.nlist
                distance[short], row[short] = part.search(queries[short], count)
        rows = np.concatenate([rows, np.where(row < 0, row, row + first)], 1)
        distances = np.concatenate([distances, distance], 1)  # that of no row is the largest float32
        nearest = np.argsort(distances, 1, kind="stable")[:, :count]
        rows, distances = np.take_along_axis(rows, nearest, 1), np.take_along_axis(distances, nearest, 1)
        first += part.ntotal
    return rows
