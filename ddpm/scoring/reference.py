"""The extractors' features of the real images: made once per dataset and extractor, and read for every score.

data/reference/ holds ``weights.safetensors`` and ``features.safetensors`` for each extractor, how near the test images
come to train images in their pixels, and ``reference.json`` with the sha256 of each and of the images. The features are
of the real images, and of the yardsticks (ddpm/scoring/yardsticks.py). Of more than
``distances.MOST`` train images, ``train.npy`` holds all features; of more than ``neighbours.EXACT``, an index of them
and one of the pixels do. torch-fidelity's own cache is not used, because it is keyed only by name and read by an
unrestricted unpickler.
"""

import sys
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddpm.base import progress
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, read_json, sha256, write_json
from ddpm.base.images import Images
from ddpm.base.settings import Shape
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import open_array, open_split, read_manifest
from ddpm.scoring import distances, extractor, frechet, memorisation, neighbours, yardsticks
from ddpm.scoring.extractor import Extractor, Features
from ddpm.scoring.memorisation import Nearest, Remade, Space
from ddpm.scoring.settings import AUTO, Evaluate

WEIGHTS = "weights.safetensors"
FEATURES = "features.safetensors"
TRAIN = "train.npy"
INDEXED = "features"  # begins the names of the files of an index of them
PIXELS = "pixels"
NEAREST = f"{PIXELS}.safetensors"
YARDSTICK = "yardstick"  # begins the names of their features in FEATURES
NEAR = "nearest"  # begins the names of a ``Nearest``'s fields in files
AT_ONCE = 2**16  # train images, whose features are in memory at once
TESTED = 10_000  # test images that are searched for in a train split of more than ``distances.MOST``
INDEX = "reference.json"


@dataclass(frozen=True)
class Reference:
    """The content of ``reference.json``.

    images: sha256 of the train split; held_out: of the test split; count, channels, image_size: the train split's
    shape; extractors: the sha256 of each extractor's files, by extractor and file name; pixels: of ``NEAREST``; index:
    of the files of the pixels' index, by name; None if the train split has none.
    """

    dataset: str
    images: str
    held_out: str
    count: int
    channels: int
    image_size: int | list[int]
    extractors: dict[str, dict[str, str]]
    pixels: str
    index: dict[str, str] | None = None

    @property
    def shape(self) -> Shape:
        return Shape.of(self.channels, self.image_size)

    def resolved(self, settings: Evaluate) -> Evaluate:
        """The same with what ``auto`` stood for when the reference was made."""
        if AUTO not in settings.extractors:
            return settings
        return settings.model_copy(update={"extractors": tuple(self.extractors)})


@dataclass(frozen=True, eq=False)
class RealFeatures:
    """One extractor, and its features of the real images.

    rows: (N,), of the train images that metrics of pairs look at: all, or ``distances.rows``; features: (N, D) float32,
    theirs; mu, sigma: (D,) and (D, D), the mean and covariance of the whole train split, as ``frechet.statistics`` has
    them; held_out: of the test split, or a part of it, likewise; nearest: the train image nearest to each of those, or
    of ``TESTED`` of them; nearest_apart: the distance of each such train image to its nearest other; around: (N, k),
    the squared distances of ``features`` to their nearest others, k of evaluate.prc_neighborhood; every: (M, D), of all
    train images; None: they have an index, of these files.
    """

    extractor: Extractor
    network: nn.Module
    rows: NDArray[np.int64]
    features: Tensor
    mu: NDArray[np.floating]
    sigma: NDArray[np.float64]
    held_out: Features
    nearest: Nearest
    around: Tensor
    every: Tensor | NDArray[np.float32] | None
    index: tuple[Path, ...]
    nearest_apart: NDArray[np.float64]
    yardsticks: dict[str, Features]

    def space(self, images: Images, batch_size: int, device: torch.device) -> Space:
        """The train images, ``images``, in these features."""
        made = Remade(self.network, images, batch_size, device) if self.every is None else self.every
        return Space(made, device, self.index)

    def apart_at(self, rows: NDArray[np.int64], space: Space) -> dict[str, NDArray[np.float64]]:
        """apart: (N,), the distances of the train images ``rows`` to their nearest other."""
        return {"apart": self.apart[rows] if self.every is self.features else space.apart(rows)}

    @property
    def apart(self) -> NDArray[np.float64]:
        """(N,), the distance of each of ``features`` to its nearest other."""
        return self.around[:, 0].double().sqrt().numpy()

    def reach(self, k: int) -> Tensor:
        """(N,), the squared distance of each of ``features`` to its k-th nearest other."""
        known = self.around.shape[1] >= k
        return self.around[:, k - 1] if known else distances.neighbours(self.features, k)[0][:, -1]


def make_reference(
    settings: Evaluate, processed: Path, folder: Path, device: torch.device, ranks: Ranks = ALONE
) -> None:
    """Write ``folder`` for the extractors in ``settings``, completely or not at all.

    The ranks share the images, and it has the same bytes for any number of them; the main one makes weights, and
    writes. Raises UserError when weights are not available or the dataset does not suit an extractor.
    """
    manifest = read_manifest(processed)
    images, labels = open_split(processed, "train")
    drawn = yardsticks.draw(images, labels, ranks)
    held_out = distances.part(open_split(processed, "test")[0], distances.MOST)
    compared = distances.rows(len(images), distances.MOST)
    searched = TESTED if len(images) > distances.MOST else distances.MOST
    with atomic_path(folder) if ranks.main else nullcontext(folder) as temporary:
        digests = {}
        for name in settings.extractors:
            chosen = extractor.get(name)
            if manifest.channels == 1 and chosen.channels and ranks.main:
                print(f"evaluate.extractors: {name} sees RGB: gray is repeated to three channels", file=sys.stderr)
            made = ranks.each({name: partial(_make_weights, chosen, processed, temporary / name / WEIGHTS, device)})
            network = chosen.load(Path(bytes(made[name]["path"]).decode()))
            remade = Remade(network, images, settings.batch_size, device)
            features, statistics = _of_train(remade, compared, temporary / name, ranks)
            test, *others = (
                extractor.extract(network, some, settings.batch_size, device, ranks)
                for some in (held_out, *drawn.values())
            )
            some = distances.part(test.features, searched)
            searches = {
                NEAR: partial(_near, some, temporary / name, features, remade),  # on the main rank
                "around": partial(_around, features, settings.prc_neighborhood),
            }
            found = ranks.each(searches)
            if ranks.main:
                tensors = {"features": features} | _by_field("test", test)
                for yardstick, its in zip(drawn, others, strict=True):
                    tensors |= _by_field(f"{YARDSTICK}.{yardstick}", its)
                arrays = statistics | found["around"] | _named(found[NEAR])
                save_file(tensors | _tensors(arrays), temporary / name / FEATURES)
                digests[name] = {file.name: sha256(file) for file in sorted((temporary / name).iterdir())}
        pictures = distances.part(held_out, searched)
        near = ranks.each({NEAR: partial(_near_pixels, pictures, images, compared, device, temporary)})[NEAR]
        if ranks.main:
            save_file(_tensors(_named(near)), temporary / NEAREST)
            index = Reference(
                dataset=manifest.dataset,
                images=manifest.sha256["train"],
                held_out=manifest.sha256["test"],
                count=len(images),
                channels=manifest.channels,
                image_size=manifest.shape.image_size,
                extractors=digests,
                pixels=sha256(temporary / NEAREST),
                index={file.name: sha256(file) for file in neighbours.files(temporary, PIXELS)} or None,
            )
            write_json(temporary / INDEX, {key: value for key, value in asdict(index).items() if value is not None})
    ranks.largest(0)  # no rank reads the folder before it is there


def _make_weights(chosen: Extractor, processed: Path, path: Path, device: torch.device) -> dict[str, Any]:
    """``path``, as bytes: the ranks see the same files, but only the main one knows the folder's temporary name."""
    path.parent.mkdir(parents=True)
    chosen.write_weights(processed, path, device)
    return {"path": np.frombuffer(bytearray(str(path).encode()), np.uint8)}


def _of_train(
    train: Remade, compared: Tensor, folder: Path, ranks: Ranks
) -> tuple[Tensor, dict[str, NDArray[np.floating]]]:
    """The features of the rows that are ``compared``, and ``frechet.statistics`` of all. If only a part is compared,
    few are in memory at a time, and ``folder`` gets ``TRAIN`` or an index."""
    network, images, batch_size, device = train.network, train.images, train.batch_size, train.device
    if len(compared) == len(images):
        features = extractor.extract(network, images, batch_size, device, ranks).features
        return features, frechet.statistics(features)
    moments, kept = frechet.Moments(), []
    index: neighbours.Writer | None = None
    if len(images) > neighbours.EXACT:
        some = extractor.extract(network, images[compared.numpy()], batch_size, device, ranks).features
        index = neighbours.Writer(folder, INDEXED, neighbours.coarse(some)) if ranks.main else None
    step = -(-AT_ONCE // batch_size) * batch_size
    for first in range(0, len(images), step):
        rows = range(first, min(first + step, len(images)))
        features = extractor.extract(network, images, batch_size, device, ranks, rows).features
        moments.add(features)
        kept.append(features[compared[(compared >= first) & (compared < first + step)] - first])
        if index:
            index.add(neighbours.coarse(features))
        elif ranks.main and len(images) <= neighbours.EXACT:
            mode = "r+" if first else "w+"
            every = np.lib.format.open_memmap(folder / TRAIN, mode, np.float32, (len(images), features.shape[1]))
            every[first : rows.stop] = features.numpy()
    if index:
        index.close()
    return torch.cat(kept), moments.statistics()


def _every(folder: Path, features: Tensor) -> tuple[Tensor | NDArray[np.float32] | None, tuple[Path, ...]]:
    """``RealFeatures.every`` and ``.index`` of an extractor's folder."""
    if index := neighbours.files(folder, INDEXED):
        return None, index
    return open_array(folder / TRAIN) if (folder / TRAIN).exists() else features, ()


def _near(queries: Tensor, folder: Path, features: Tensor, remade: Remade) -> dict[str, Any]:
    """The ``Nearest`` of the test images' features, and ``nearest_apart`` unless it follows from ``around``."""
    every, index = _every(folder, features)
    space = Space(remade if every is None else every, remade.device, index)
    found = space.search(queries)
    return found if every is features else found | {"apart": space.apart(found["row"])}


def _near_pixels(
    queries: Images, images: Images, compared: Tensor, device: torch.device, folder: Path
) -> dict[str, Any]:
    """The ``Nearest`` of the test images. Writes the index of the pixels if there are so many."""
    if len(images) > neighbours.EXACT:
        parts = (images[rows.numpy()] for rows in compared.split(memorisation.ROWS))
        seen = np.concatenate([neighbours.coarse(torch.from_numpy(part)) for part in parts])
        index = neighbours.Writer(folder, PIXELS, seen)
        with progress.bar(len(images), "index of pixels", "image", shown=True, brief=True) as bar:
            for first in range(0, len(images), memorisation.ROWS):
                block = np.array(images[first : first + memorisation.ROWS])
                index.add(neighbours.coarse(torch.from_numpy(block)))
                bar.update(len(block))
        index.close()
    return Space(images, device, neighbours.files(folder, PIXELS)).search(queries)


def _around(features: Tensor, k: int) -> dict[str, Any]:
    return {"around": distances.neighbours(features, min(k, len(features)))[0].numpy()}


def _tensors(arrays: dict[str, Any]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays.items()}


def _by_field(name: str, features: Features) -> dict[str, Tensor]:
    return {f"{name}.{field}": value for field, value in features._asdict().items()}


def _named(near: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ``Nearest`` as files have them; ``_as_nearest`` reads them."""
    return {f"{NEAR}.{field}": value for field, value in near.items()}


def _as_nearest(tensors: dict[str, Tensor]) -> Nearest:
    return Nearest(*(tensors[f"{NEAR}.{field}"].numpy() for field in Nearest._fields))


def read_reference(folder: Path) -> Reference:
    """Raises UserError when the reference stage has not run, or ran in another version."""
    try:
        return Reference(**read_json(folder / INDEX))
    except TypeError as error:
        raise UserError(f"{folder / INDEX}: made by another version ({error}); run `dvc repro -f reference`") from error


def load_features(folder: Path, name: str) -> RealFeatures:
    """The features of extractor ``name`` from the reference in ``folder``, without reading any image.

    Raises UserError when the reference does not include it, or a file is missing or has changed.
    """
    index = read_reference(folder)
    if name not in index.extractors:
        raise UserError(
            f"evaluate.extractors: {name!r} is not part of {folder}, which has {', '.join(index.extractors)}: "
            "run `dvc repro`"
        )
    for file, digest in index.extractors[name].items():
        _check(folder / name / file, digest)
    chosen = extractor.get(name)
    tensors = load_file(folder / name / FEATURES)
    every, files = _every(folder / name, tensors["features"])
    near = _as_nearest(tensors)
    apart = tensors[f"{NEAR}.apart"] if f"{NEAR}.apart" in tensors else tensors["around"][near.row, 0].double().sqrt()
    return RealFeatures(
        extractor=chosen,
        network=chosen.load(folder / name / WEIGHTS),
        rows=distances.rows(index.count, distances.MOST).numpy(),
        features=tensors["features"],
        mu=tensors["mu"].numpy(),
        sigma=tensors["sigma"].numpy(),
        held_out=Features(tensors["test.features"], tensors["test.logits"]),
        nearest=near,
        around=tensors["around"],
        every=every,
        index=files,
        nearest_apart=apart.numpy(),
        yardsticks={
            yardstick: Features(*(tensors[f"{YARDSTICK}.{yardstick}.{field}"] for field in Features._fields))
            for yardstick in yardsticks.NAMES
            if f"{YARDSTICK}.{yardstick}.features" in tensors
        },
    )


def load_pixels(folder: Path) -> tuple[Nearest, tuple[Path, ...]]:
    """The train image nearest to each test image, by their pixels, and the files of the pixels' index, if there is one.
    Raises UserError as ``load_features`` does."""
    found = read_reference(folder)
    for name, digest in {NEAREST: found.pixels, **(found.index or {})}.items():
        _check(folder / name, digest)
    return _as_nearest(load_file(folder / NEAREST)), neighbours.files(folder, PIXELS)


def _check(path: Path, digest: str) -> None:
    if not path.is_file() or sha256(path) != digest:
        raise UserError(f"{path}: missing or changed since it was made; run `dvc repro -f reference`")
