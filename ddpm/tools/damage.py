"""What each score notices: real test images, damaged in ways that a score should see, on the user's own data.

Every metric has blind spots, and they depend on the data, the features and the number of images (arXiv:2505.22450). So
sets of real test images are scored like samples, whole and damaged, and the question is how often a damaged set scores
worse than a whole one. The test split is at most half used by a set, so that sets differ.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ddpm.base import progress
from ddpm.base.errors import UserError
from ddpm.base.files import write_json
from ddpm.compute import noise
from ddpm.data.data_params import Data
from ddpm.data.processed import open_split
from ddpm.pictures import grids
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from ddpm.scoring.limits import possible_metrics
from ddpm.scoring.metric import DAMAGE, HARMLESS, STATIC
from ddpm.scoring.reference import RealFeatures, load_features, read_reference
from ddpm.scoring.scores import score
from ddpm.verdicts import metrics
from ddpm.verdicts.sensitivity import PATH, PICTURE, Sanity, Sensitivity, data_params

SETS = 8
WHOLE = ""
SHOWN = 12  # images of each damage in the picture
FEWEST = 20  # test images
SEED = 2020
BLUR, NOISE = 1 / 32, 1 / 16  # of the images' sides, and of the range of grey levels
NOISE_BATCH = 256  # images for which noise is drawn at once
QUALITY = 25  # of JPEG: blocks can be seen

Images = NDArray[np.uint8]
Rows = NDArray[np.int64]


def blur(images: Images, level: float) -> Images:
    """Gaussian blur with a standard deviation of ``level`` times the image's height and width; edges are repeated."""
    sigma = (0, 0, level * images.shape[2], level * images.shape[3])
    return gaussian_filter(images.astype(np.float32), sigma, mode="nearest").round().astype(np.uint8)


def add_noise(images: Images, level: float) -> Images:
    """Add Gaussian noise with a standard deviation of ``level`` times the range of grey levels; the draws are the same
    at every level."""
    spoiled = []
    for index in torch.arange(len(images)).split(NOISE_BATCH):
        batch = torch.from_numpy(images[index.numpy()]).float()
        spoiled.append(batch + 255 * level * noise.gaussian(SEED, "calibration", index, 0, images.shape[1:]))
    return torch.cat(spoiled).round().clamp(0, 255).to(torch.uint8).numpy()


def compress(images: Images) -> Images:
    """uint8 (N, C, H, W) after JPEG; C of 1 or 3."""
    coded = []
    for image in images.transpose(0, 2, 3, 1):
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "JPEG", quality=QUALITY)
        coded.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(coded).transpose(0, 3, 1, 2)


SPOILED: Mapping[str, Callable[[Images], Images]] = {
    "blur": lambda images: blur(images, BLUR),
    "noise": lambda images: add_noise(images, NOISE),
    STATIC: lambda images: add_noise(np.full_like(images, 128), 0.5),  # what sampling starts from
    "jpeg": compress,
}


def sizes(test: int, count: int) -> int:
    """Images in a set: as many as are sampled, at most half of the test split. Raises UserError if these are few."""
    if test < FEWEST:
        raise UserError(f"data/processed/test: {test} images show nothing; at least {FEWEST} are needed: raise "
                        "data.test_fraction")  # fmt: skip
    return min(count, test // 2)


class Drawn(NamedTuple):
    """A set, and the damage that chose its images. rows: of the test split, followed by a pool of train images."""

    damage: str
    rows: Rows


def draw_sets(labels: NDArray[np.int64], count: int, pool: int) -> Iterator[Drawn]:
    """SETS whole sets, and as many of each damage that chooses among images. Set k of each has the same
    generator, and leaves out or doubles the k-th of the classes in turn.

    labels: of the test split. pool: the number of train images to choose from.
    """
    classes = np.unique(labels)
    for number in range(SETS):
        order = np.random.default_rng([SEED, number]).permutation(len(labels))
        yield Drawn(WHOLE, order[:count])
        yield Drawn(HARMLESS, order[: count // 2])
        copies = len(labels) + np.random.default_rng([SEED, number]).permutation(pool)[: count // 2]
        yield Drawn("copies", np.concatenate([order[: count - len(copies)], copies]))
        if len(classes) > 1:
            one = labels[order] == classes[number % len(classes)]
            rest = order[~one]
            if len(rest) >= count:
                yield Drawn("dropped", rest[:count])
            # twice its share of the set, made up for by fewer of the others
            twice = np.resize(order[one], min(count, 2 * int(np.count_nonzero(one[:count]))))
            yield Drawn("doubled", np.concatenate([twice, rest])[:count])


def measure(
    evaluate: Evaluate, data: Data, count: int, processed: Path, reference: Path, device: torch.device
) -> Sanity:
    """Score whole and damaged sets of real test images by every metric of ``evaluate`` for which they are enough.

    count: samples that a model is scored on. Raises UserError if there are too few test images for any metric.
    """
    test, labels = open_split(processed, "test")
    index = read_reference(reference)
    train, _ = open_split(processed, "train")
    samples, count = count, sizes(len(test), count)
    pool = np.sort(np.random.default_rng(SEED).permutation(len(train))[: min(len(train), len(test))])
    images, draws = np.array(test), list(draw_sets(labels, count, len(pool)))
    scores: dict[str, Sensitivity] = {}
    for name in index.resolve(evaluate).extractors:
        real = load_features(reference, name, device)
        options, fewer = (possible_metrics(evaluate, real.extractor, size) for size in (count, count // 2))
        if not options.metrics:
            raise UserError(
                f"data/processed/test: sets of {count:,} of its {len(images):,} images are too few for all of "
                f"evaluate.metrics with {name}: raise data.test_fraction, or lower evaluate.kid_subset_size"
            )
        damaged = possible_damage(images)
        spoiled = {damage: _features(spoil(images), real, options) for damage, spoil in damaged.items()}
        whole = _features(np.concatenate([images, train[pool]]), real, options)
        tables: dict[str, dict[str, list[float]]] = {}
        with progress.bar(len(draws) + SETS * len(spoiled), f"sanity, {name}", "set") as bar:
            for draw in draws:
                sets = {draw.damage: whole} | (spoiled if draw.damage == WHOLE else {})
                for damage, of in sets.items():
                    part = Features(*(tensor[draw.rows] for tensor in of))
                    for key, value in score(part, real, fewer if damage == HARMLESS else options).items():
                        tables.setdefault(f"{name}.{key}", {}).setdefault(damage, []).append(value)
                    bar.update()
        for key, table in tables.items():
            if metrics.is_judged(key):
                base, lower = np.array(table.pop(WHOLE)), metrics.direction(key) == "lower"
                noticed = {damage: worse(np.array(values), base, lower) for damage, values in table.items()}
                scores[key] = Sensitivity(whole=float(base.mean()), noticed=noticed)
    return Sanity(images=count, samples=samples, sets=SETS, data=data_params(data), scores=scores)


def _features(images: Images, real: RealFeatures, options: Evaluate) -> Features:
    return extract(real.network, images, options.batch_size, real.device)


def possible_damage(images: Images) -> dict[str, Callable[[Images], Images]]:
    """The damages that these images allow: JPEG needs one channel or three."""
    return {name: spoil for name, spoil in SPOILED.items() if name != "jpeg" or images.shape[1] in (1, 3)}


def worse(damaged: NDArray[np.float64], whole: NDArray[np.float64], lower: bool) -> float:
    """Of all pairs, the share in which the damaged set scores worse; equal scores count half. lower: is better."""
    gaps = np.subtract.outer(damaged, whole) * (1 if lower else -1)
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def write_sanity(sanity: Sanity, processed: Path) -> None:
    """Write ``PATH``, and a picture of some test images: whole, then by each damage to the image itself."""
    images, _ = open_split(processed, "test")
    some = np.array(images[:SHOWN])
    rows = {"whole": some} | {DAMAGE[name].head: spoil(some) for name, spoil in possible_damage(some).items()}
    grids.save_rows(rows, PICTURE)
    write_json(PATH, sanity.model_dump(mode="json"))
