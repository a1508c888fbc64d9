"""The record of images that any program drew: scored against the real images here, exactly as the evaluate stage does,
or by their distance to the statistics of real images that others ship.

What made them is recorded as given. What is not given is unknown, and never guessed.
"""

import re
import shutil
import sys
from collections.abc import Mapping
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm.base import files, paths, variant
from ddpm.base.errors import UserError, blame, printable
from ddpm.base.files import open_array
from ddpm.base.images import Images, digest, distinct
from ddpm.base.sections import Affects, Shape, parse
from ddpm.base.variant import quote
from ddpm.compute import devices
from ddpm.data.pixels import BROKEN, explain
from ddpm.evaluation import evaluation
from ddpm.evaluation.fingerprint import comparable
from ddpm.params import config, credit
from ddpm.runs import record
from ddpm.runs.record import Costs, Fingerprint, Record
from ddpm.sampling.sample_params import Sample
from ddpm.scoring import extractor, frechet
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import extract
from ddpm.scoring.limits import check_channels, check_counts
from ddpm.scoring.reference import REAL, WEIGHTS, read_reference
from ddpm.sources.archives import is_archive, open_members
from ddpm.sources.dataset import MODES
from ddpm.variants.datasets.image_folder import ImageFolder

Against: TypeAlias = tuple[Path, str] | None  # an .npz file that others made of real images, and the extractor
Judged: TypeAlias = tuple[str, dict[str, float], dict[str, Any]]  # the images' digest, scores, and what they rest on

FIRST = "arr_0"  # the array of images in an .npz
MU, SIGMA = "mu", "sigma"  # those of the mean and covariance of their features
ROUNDING = 1e-4  # of the largest covariance, by which one in float32 may differ from its transpose
LARGEST = 1e100  # covariance: products of larger ones overflow
MOST = 200_000  # images
AS_REAL = "allowed, as the real images are (data.image_size, data.channels; then `dvc repro reference`)"
FEWEST = 0.9  # the share of images that differ from all before
SECONDS = "seconds."  # begins the cost of a stage


def score(
    samples: Path, seed: int, name: str, params: Mapping[str, Any], costs: Mapping[str, Any], against: Against = None
) -> Record:
    """The record of the images in ``samples``.

    samples: a folder or archive of pictures, or an .npy or .npz file. seed: of the training. params,
    costs: what is known of it; a cost ``seconds.STAGE`` is a stage's time. against: what they are compared with, if not
    with the real images here. Raises UserError if the images are too few, of another shape than the real ones or not
    uint8, or a value is not allowed.
    """
    checked = config.load_scoring()
    flat = files.flatten(checked.model_dump(mode="json", serialize_as_any=True))
    known = {} if against else config.sections_affecting(Affects.SCORED, flat)
    if fixed := sorted(known.keys() & params.keys()):
        raise UserError(f"--param: {fixed[0]} is {known[fixed[0]]} for the real images here; leave it out")
    stages = {key.removeprefix(SECONDS): value for key, value in costs.items() if key.startswith(SECONDS)}
    others = {key: value for key, value in costs.items() if not key.startswith(SECONDS)}
    given = {
        "name": name,
        "program": name,
        "seed": seed,
        "finished": record.now(),
        "params": {**known, **params},
        "costs": parse(others | {"seconds": stages}, "--cost", Costs),
        "environment": {"processor": None, "training_precision": None},
    }
    unscored = {"fingerprint": Fingerprint.of({}), "scores": {}, "diverged": "not scored yet"}
    parse(given | unscored, "ddpm score", Record)  # a mistake is refused before the scoring, which takes long
    with TemporaryDirectory(prefix="ddpm-score-") as scratch:
        place = (samples, checked, Path(scratch))
        content, scores, rests_on = _by_file(*place, *against) if against else _by_real_images(*place)
    judged = {"fingerprint": Fingerprint.of(rests_on), "samples": content, "scores": scores}
    return parse(given | judged, "ddpm score", Record)


def _by_real_images(samples: Path, checked: config.Scoring, scratch: Path) -> Judged:
    """By the real images here, as the evaluate stage does."""
    credit.refuse_other_params(checked, "preprocess", "reference")
    index, device = read_reference(paths.REFERENCE), devices.resolve(checked.device)
    evaluate = index.resolve(checked.evaluate)
    images = _read_set(samples, index.manifest.shape, evaluate, scratch)
    real = evaluation.Real.open(paths.PROCESSED, paths.REFERENCE, evaluate, device)
    yardsticks = evaluation.comparison(real, len(images), evaluate)
    floor = yardsticks.pop(REAL)
    theirs = evaluation.mean([evaluation.report(images, real, evaluate).scores])
    scores = files.flatten(theirs | {REAL: floor, evaluation.YARDSTICKS: yardsticks})
    drawn = Sample.model_construct(count=len(images), seeds=(0,))
    return digest([images]), scores, comparable(index, evaluate, drawn)


def _by_file(samples: Path, checked: config.Scoring, scratch: Path, reference: Path, features: str) -> Judged:
    """By the Fréchet distance to the images that ``reference`` describes."""
    if features not in (allowed := [each for each in variant.names("extractors") if extractor.get(each).published]):
        raise UserError(f"--extractor: {quote(features)}; allowed, with published weights: {', '.join(allowed)}")
    chosen, device, weights = extractor.get(features), devices.resolve(checked.device), scratch / WEIGHTS
    evaluate = checked.evaluate.model_copy(update={"extractors": (features,), "metrics": ("fid",)})
    check_channels(evaluate, checked.data.channels)
    real = read_statistics(reference, chosen.dimensions, scratch)
    images = _read_set(samples, checked.data.shape, evaluate, scratch)
    chosen.write_weights(paths.PROCESSED, weights, device)
    fake = extract(chosen.load(weights), images, evaluate.batch_size, device).features.to(device)
    scores = {f"{features}.{chosen.frechet}": frechet.Distance(real[MU], real[SIGMA], device)(fake)}
    rests_on = {"reference": files.sha256(reference), "weights": files.sha256(weights), "resizer": chosen.resizer}
    return digest([images]), scores, rests_on | {"samples": len(images), "sampling": None}


def read_statistics(path: Path, dimensions: int, scratch: Path) -> dict[str, NDArray[np.floating]]:
    """``mu``, (D,), and ``sigma``, (D, D), float64. Raises UserError unless the file has them, and they are the mean
    and covariance of D features, ``dimensions``."""
    if path.suffix.lower() != ".npz":
        raise UserError(f"{path}: allowed: an .npz file with {MU} and {SIGMA}")
    arrays: dict[str, NDArray[np.floating]] = {}
    for key, shape in {MU: (dimensions,), SIGMA: (dimensions, dimensions)}.items():
        array = _array(path, scratch, key)
        if array.shape != shape or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise UserError(f"{path}: {key} is {array.dtype} {quote(array.shape)}; allowed: finite floats {shape}")
        arrays[key] = array.astype(np.float64)
    sigma = arrays[SIGMA]
    if abs(sigma - sigma.T).max() > ROUNDING * abs(sigma).max():
        raise UserError(f"{path}: {SIGMA} is not symmetric, so it is not a covariance")
    if abs(sigma).max() > LARGEST or (variances := np.linalg.eigvalsh(sigma))[0] < -ROUNDING * abs(variances[-1]):
        raise UserError(f"{path}: {SIGMA} has negative variances, or more than {LARGEST:g}, so it is not a covariance")
    return arrays


def _read_set(samples: Path, shape: Shape, evaluate: Evaluate, scratch: Path) -> Images:
    """The images. Raises UserError if they are too few for the metrics, or many are repetitions, which no distance
    notices; warns of few."""
    images = read_images(samples, shape, scratch)
    with blame(samples):
        check_counts(evaluate, {"sample.count": len(images)})
    count, different = len(images), distinct(images)
    if different < FEWEST * count:
        raise UserError(
            f"{samples}: of {count:,} images only {different:,} differ; allowed: {FEWEST:.0%}, because copies make a "
            "set look larger than it is: leave them out"
        )
    if different < count:
        print(f"warning: {samples}: {count - different:,} images are repetitions", file=sys.stderr)
    return images


def read_images(samples: Path, shape: Shape, scratch: Path) -> Images:
    """The images as uint8 (N, C, H, W), in the order of their names or rows. scratch: an empty folder, which holds what
    is read from it as long as they are used. Raises UserError if one has another shape or type."""
    if not samples.exists():
        raise UserError(f"{samples}: no such file or folder")
    if samples.suffix.lower() in (".npy", ".npz"):
        array = _array(samples, scratch)
        _limit(samples, len(array) if array.ndim else 0)
        return _axes(samples, array, shape)
    if not (samples.is_dir() or is_archive(samples.name)):
        raise UserError(f"{samples}: allowed: a folder or archive of pictures, or an .npy or .npz file")
    dataset = ImageFolder()
    dataset.download(str(samples.resolve()), scratch / "raw")
    records = dataset.read(scratch / "raw")
    _limit(samples, len(records.names))
    images = np.lib.format.open_memmap(scratch / "images.npy", "w+", np.uint8, (len(records.names), *shape))
    allowed = f"{MODES.get(shape.channels)} of {shape.width}x{shape.height}"
    for row, name in enumerate(records.names):
        try:
            picture = cast(Image.Image, records.open(row))
            if (found := f"{picture.mode} of {picture.width}x{picture.height}") != allowed:
                raise ValueError(f"{found}; {AS_REAL}: {allowed}")
            images[row] = np.asarray(picture).reshape(*shape[1:], shape.channels).transpose(2, 0, 1)
        except BROKEN as error:
            raise UserError(f"{samples}: {printable(name)}: {explain(error)}") from error
    return images


def _limit(samples: Path, count: int) -> None:
    """Raises UserError for more than ``MOST`` images: a file of a megabyte may hold millions that are all black."""
    if count > MOST:
        raise UserError(f"{samples}: {count:,} images; allowed: at most {MOST:,}, and 50,000 are usual")


def _array(path: Path, scratch: Path, key: str = FIRST) -> NDArray[Any]:
    """The array of an .npy file; of an .npz, the one called ``key``, or the only one for arr_0."""
    if path.suffix.lower() != ".npz":
        return open_array(path, remedy=f"look at {path}")
    with open_members(path) as members:
        names = [PurePosixPath(member.name).stem for member in members]
    wanted = [0] if len(names) == 1 and key == FIRST else [row for row, name in enumerate(names) if name == key]
    if len(wanted) != 1:
        raise UserError(f"{path}: {len(names)} arrays, of which {len(wanted)} are called {key}; allowed: one")
    copy = scratch / "array.npy"
    copy.unlink(missing_ok=True)  # what is mapped stays
    with open_members(path) as members, copy.open("wb") as file:
        shutil.copyfileobj(next(islice(members, wanted[0], None)).stream, file)
    return open_array(copy, remedy=f"look at {path}")


def _axes(path: Path, array: NDArray[Any], shape: Shape) -> Images:
    """(N, C, H, W) of an array that may have its channels last, or none."""
    channels, *sides = shape
    if array.dtype != np.uint8:
        raise UserError(f"{path}: images of {array.dtype}; allowed: uint8, as they are seen, from 0 to 255")
    images = array[:, None] if array.ndim == 3 else array
    if images.shape[1:] == (*sides, channels) != tuple(shape):
        images = np.moveaxis(images, -1, 1)
    if images.shape[1:] == tuple(shape):
        return images
    allowed = f"(N, {channels}, {sides[0]}, {sides[1]}) or (N, {sides[0]}, {sides[1]}, {channels})"
    raise UserError(f"{path}: an array of shape {quote(array.shape)}; {AS_REAL}: {allowed}")


def write_record(run: Record, out: Path | None) -> Path:
    """Write the record, by default to metrics/scored/NAME-SEED.json. Raises UserError if another one is there."""
    name = re.sub(r"[^\w.-]+", "_", run.name)
    path = out or paths.SCORED / f"{name}-{run.seed}.json"
    if path.exists() and record.read_record(path).facts != run.facts:
        raise UserError(f"{path}: holds another run's record: remove it, or write elsewhere with --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    record.write_record(run, path)
    return path
