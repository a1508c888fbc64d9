"""The record of images that any program drew: scored against the real images here, exactly as the evaluate stage does.

What made them is recorded as given. What is not given is unknown, and never guessed.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base import files, paths
from ddpm.base.errors import UserError, printable
from ddpm.base.files import open_array
from ddpm.base.images import Images, digest, distinct
from ddpm.base.sections import Affects, Shape, parse
from ddpm.base.variant import quote
from ddpm.compute import devices
from ddpm.data.pixels import BROKEN
from ddpm.evaluation import evaluation
from ddpm.evaluation.fingerprint import fingerprint
from ddpm.params import config, credit
from ddpm.params import file as params_file
from ddpm.runs import record
from ddpm.runs.record import Costs, Fingerprint, Record
from ddpm.scoring.limits import check_counts
from ddpm.scoring.reference import read_reference
from ddpm.sources.archives import open_members
from ddpm.sources.dataset import MODES
from ddpm.variants.datasets.image_folder import ImageFolder

FIRST = "arr_0"  # the array of images in an .npz
MOST = 200_000  # images
FEWEST = 0.9  # the share of images that differ from all before
SECONDS = "seconds."  # begins the cost of a stage


def score(samples: Path, seed: int, name: str, params: Mapping[str, Any], costs: Mapping[str, Any]) -> Record:
    """The record of the images in ``samples``.

    samples: a folder or archive of pictures, or an .npy or .npz file. seed: of the training. params,
    costs: what is known of it; a cost ``seconds.STAGE`` is a stage's time. Raises UserError if the images are too few,
    of another shape than the real ones or not uint8, or a value is not allowed.
    """
    plain = params_file.read_params()
    checked = config.parse(plain)
    credit.refuse_other_params(checked, "preprocess", "reference")
    index, device = read_reference(paths.REFERENCE), devices.resolve(checked.device)
    judged = index.resolve(checked.evaluate)
    known = config.sections_affecting(Affects.SCORED, checked.flat())
    if fixed := sorted(known.keys() & params.keys()):
        raise UserError(f"--param: {fixed[0]} is {known[fixed[0]]} for the real images here; leave it out")
    with TemporaryDirectory(prefix="ddpm-score-") as scratch:
        images = read_images(samples, Shape(*index.shape), Path(scratch))
        try:
            check_counts(judged, {"sample.count": len(images)})
        except UserError as error:
            raise UserError(f"{samples}: {error}") from error
        real, count = evaluation.Real.open(paths.PROCESSED, paths.REFERENCE, judged, device), len(images)
        _check_distinct(samples, images)
        content = digest([images])
        yardsticks = evaluation.comparison(real.features, count, judged)
        floor = yardsticks.pop(evaluation.REAL)
        theirs = evaluation.mean([evaluation.report(images, real, judged).scores])
        scores = files.flatten(theirs | {evaluation.REAL: floor, evaluation.YARDSTICKS: yardsticks})
    if odd := [key for key, value in scores.items() if not math.isfinite(value)]:
        raise UserError(f"{samples}: {', '.join(odd)} is not a finite number: look at the images")
    stages = {key.removeprefix(SECONDS): value for key, value in costs.items() if key.startswith(SECONDS)}
    others = {key: value for key, value in costs.items() if not key.startswith(SECONDS)}
    drawn = checked.sample.model_copy(update={"count": count, "seeds": (0,)})
    ours = fingerprint(index, judged, drawn, device)
    return Record(
        name=name,
        program=name,
        seed=seed,
        finished=record.now(),
        params={**known, **params},
        fingerprint=Fingerprint(hash=ours["hash"], comparable=ours["comparable"]),
        samples=content,
        scores=scores,
        costs=parse(others | {"seconds": stages}, "--cost", Costs),
        environment={"processor": None, "training_precision": None},
    )


def _check_distinct(samples: Path, images: Images) -> None:
    """Raises UserError if many images are repetitions, which no distance notices; warns of few."""
    count, different = len(images), distinct(images)
    if different < FEWEST * count:
        raise UserError(
            f"{samples}: of {count:,} images only {different:,} differ; allowed: {FEWEST:.0%}, because copies make a "
            "set look larger than it is: leave them out"
        )
    if different < count:
        print(f"warning: {samples}: {count - different:,} images are repetitions", file=sys.stderr)


def read_images(samples: Path, shape: Shape, scratch: Path) -> Images:
    """The images as uint8 (N, C, H, W), in the order of their names or rows. scratch: an empty folder, which holds what
    is read from it as long as they are used. Raises UserError if one has another shape or type."""
    if not samples.exists():
        raise UserError(f"{samples}: no such file or folder")
    if samples.suffix.lower() in (".npy", ".npz"):
        array = _array(samples, scratch)
        _limit(samples, len(array) if array.ndim else 0)
        return _axes(samples, array, shape)
    dataset = ImageFolder()
    dataset.download(str(samples.resolve()), scratch / "raw")
    records = dataset.read(scratch / "raw")
    _limit(samples, len(records.names))
    images = np.lib.format.open_memmap(scratch / "images.npy", "w+", np.uint8, (len(records.names), *shape))
    mode, size = MODES.get(shape.channels), (shape.width, shape.height)
    for row, name in enumerate(records.names):
        try:
            picture = records.open(row)
            if not isinstance(picture, Image.Image) or (picture.mode, picture.size) != (mode, size):
                raise ValueError(f"not {mode} of {size[0]}x{size[1]}, as the real images are")
            images[row] = np.asarray(picture).reshape(*shape[1:], shape.channels).transpose(2, 0, 1)
        except BROKEN as error:
            raise UserError(f"{samples}: {printable(name)}: {error}") from error
    return images


def _limit(samples: Path, count: int) -> None:
    """Raises UserError for more than ``MOST`` images: a file of a megabyte may hold millions that are all black."""
    if count > MOST:
        raise UserError(f"{samples}: {count:,} images; allowed: at most {MOST:,}, and 50,000 are usual")


def _array(path: Path, scratch: Path) -> NDArray[Any]:
    """The array of an .npy file; of an .npz, arr_0 or the only one."""
    if path.suffix.lower() != ".npz":
        return open_array(path, remedy=f"look at {path}")
    with open_members(path) as members:
        names = [member.name for member in members]
    wanted = names if len(names) == 1 else [name for name in names if PurePosixPath(name).stem == FIRST]
    if len(wanted) != 1:
        raise UserError(f"{path}: {len(names)} arrays, of which {len(wanted)} are called {FIRST}; allowed: one")
    copy = scratch / "array.npy"
    with open_members(path) as members, copy.open("wb") as file:
        shutil.copyfileobj(next(member.stream for member in members if member.name == wanted[0]), file)
    return open_array(copy, remedy=f"look at {path}")


def _axes(path: Path, array: NDArray[Any], shape: Shape) -> Images:
    """(N, C, H, W) of an array that may have its channels last, or none."""
    channels, *sides = shape
    if array.dtype != np.uint8:
        raise UserError(f"{path}: images of {array.dtype}; allowed: uint8, as they are seen, from 0 to 255")
    if array.shape[1:] == tuple(shape):
        return array
    if array.shape[1:] == (*sides, channels):
        return np.moveaxis(array, -1, 1)
    if array.shape[1:] == tuple(sides) and channels == 1:
        return array[:, None]
    allowed = f"(N, {channels}, {sides[0]}, {sides[1]}) or (N, {sides[0]}, {sides[1]}, {channels})"
    raise UserError(f"{path}: an array of shape {quote(array.shape)}; allowed, as the real images are: {allowed}")


def parse_assignments(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Values by key, from ``KEY=VALUE`` with a value in YAML. Raises UserError."""
    if odd := [text for text in given if "=" not in text[1:]]:
        raise UserError(f"{option}: {odd[0]!r} is not allowed; allowed: KEY=VALUE")
    return params_file.decode("\n".join(text.replace("=", ": ", 1) for text in given) or "{}", option)


def write_record(run: Record, out: Path | None) -> Path:
    """Write the record, by default to metrics/scored/NAME-SEED.json. Raises UserError if another one is there."""
    name = re.sub(r"[^\w.-]+", "_", run.name)
    path = out or paths.SCORED / f"{name}-{run.seed}.json"
    if path.exists() and record.read_record(path).model_copy(update={"finished": run.finished}) != run:
        raise UserError(f"{path}: holds another run's record: remove it, or write elsewhere with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    record.write_record(run, path)
    return path
