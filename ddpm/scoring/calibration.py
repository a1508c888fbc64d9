"""What the numbers mean on this data: the scores of real images that no model has seen, and of spoiled ones.

The test split against the train split is the floor: no model needs to be closer. Blurred and noised copies of the test
split form a ladder of known steps away from it, and with each step the scores of a useful extractor get worse.
"""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ddpm.compute import noise
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import open_split
from ddpm.scoring import distances, frechet, metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from ddpm.scoring.frechet import Curve, Distance
from ddpm.scoring.limits import possible
from ddpm.scoring.reference import RealFeatures, load_features
from ddpm.scoring.scores import Scores, class_accuracy, score

FILE = "calibration.json"  # in data/reference/
CURVE = "curve"
LADDER_IMAGES = 5000  # of the test split, at most: features are extracted again for each rung
NOISE_BATCH = 256  # images for which noise is drawn at once
SEED = 2020
POOR = 0.5  # of the errors of a guess

Images = NDArray[np.uint8]
Rung = dict[str, float]
Task = Callable[[], dict[str, Any]]


def blurred(images: Images, level: float) -> Images:
    """Gaussian blur with a standard deviation of ``level`` times the image's height and width; edges are repeated."""
    sigma = (0, 0, level * images.shape[2], level * images.shape[3])
    return gaussian_filter(images.astype(np.float32), sigma, mode="nearest").round().astype(np.uint8)


def noised(images: Images, level: float) -> Images:
    """Add Gaussian noise with a standard deviation of ``level`` times the range of grey levels; the draws are the same
    at every level."""
    spoiled = []
    for index in torch.arange(len(images)).split(NOISE_BATCH):
        batch = torch.from_numpy(images[index.numpy()]).float()
        spoiled.append(batch + 255 * level * noise.gaussian(SEED, "calibration", index, 0, images.shape[1:]))
    return torch.cat(spoiled).round().clamp(0, 255).to(torch.uint8).numpy()


SPOILING: dict[str, tuple[Callable[[Images, float], Images], tuple[float, ...]]] = {
    "blur": (blurred, (1 / 32, 1 / 16, 1 / 8)),
    "noise": (noised, (1 / 16, 1 / 8, 1 / 4)),
}


def calibrate(
    evaluate: Evaluate, processed: Path, reference: Path, device: torch.device, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """``floor`` and ``ladder`` by extractor: the content of ``FILE``. The ranks share the work, and each returns it.

    The floor includes ``count``, because the Fréchet distance falls as the number of images grows; in a split that is
    stratified by class it is also lower than for as many images drawn independently. Metrics for which the split is too
    small are left out. A ladder that does not climb gives a warning on stderr and not an error, because the cause may
    be the data, such as images without any detail to blur.
    """
    test, classes = open_split(processed, "test")
    images, labels = distances.part(test, distances.MOST), distances.part(classes, distances.MOST)
    calibration = {}
    for name in evaluate.extractors:
        real = load_features(reference, name)
        enough = possible(evaluate, real.extractor, len(images))
        scores, _ = scored(ranks.run(scorings(real.held_out, real, enough, device)), real)
        floor = {"count": len(images), **scores}
        rungs = ladder(np.array(images[:LADDER_IMAGES]), real, evaluate, device, ranks)
        doubts = [*unseen(rungs, real), *recognised(real, labels)] if ranks.main else []
        for line in doubts:
            print(f"warning: {line}", file=sys.stderr)
        calibration[name] = {"floor": floor, "ladder": rungs}
    return calibration


def recognised(real: RealFeatures, labels: NDArray[np.int64]) -> list[str]:
    """Print the share of the test images whose class an extractor of the dataset's own classes recognises. Return a
    line if it makes more than ``POOR`` of the errors of naming the commonest class for each image: then, however many
    classes there are, it hardly tells them apart.

    labels: (N,), of the images of ``real.held_out``.
    """
    if not real.extractor.knows_classes:
        return []
    accuracy, guess = class_accuracy(real.held_out, labels), np.bincount(labels).max() / len(labels)
    name = real.extractor.name
    print(f"real test split, {name}: it recognises the class of {accuracy:.1%}; the commonest has {guess:.1%}")
    if 1 - accuracy <= POOR * (1 - guess):
        return []
    return [
        f"evaluate.extractors: {name} recognises the class of only {accuracy:.1%} of real test images, so its scores "
        "say little about what is in an image: take a pretrained extractor (docs/extractors.md), or more images"
    ]


def scorings(fake: Features, real: RealFeatures, evaluate: Evaluate, device: torch.device) -> dict[str, Task]:
    """Tasks for ``Ranks.each``: the scores by each metric of ``evaluate``, and the fields of the Fréchet distance's
    ``Curve``, none without one. ``scored`` joins what they return."""
    one = {name: evaluate.model_copy(update={"metrics": (name,)}) for name in evaluate.metrics}
    tasks: dict[str, Task] = {name: partial(score, fake, real, part) for name, part in one.items()}
    return tasks | {CURVE: partial(_curve, fake, real, evaluate, device)}


def _curve(*arguments: Any) -> dict[str, Any]:
    curve = fd_curve(*arguments)
    return vars(curve) if curve else {}


def scored(results: Mapping[str, dict[str, Any]], real: RealFeatures) -> tuple[Scores, Curve | None]:
    """All scores of one set of images, the curve's limit included, and the curve."""
    scores = {key: value for name, values in results.items() if name != CURVE for key, value in values.items()}
    curve = Curve(**results[CURVE]) if results[CURVE] else None
    return scores | (extrapolated(real, curve) if curve else {}), curve


def fd_curve(fake: Features, real: RealFeatures, evaluate: Evaluate, device: torch.device) -> Curve | None:
    """The Fréchet distance against N; None if it is not in ``evaluate.metrics``, or there are too few images."""
    if "fid" not in evaluate.metrics or not frechet.is_enough(len(fake.features), real.extractor.dimensions):
        return None
    return frechet.extrapolate(fake.features.to(device, torch.float64), Distance(real.mu, real.sigma, device))


def extrapolated(real: RealFeatures, curve: Curve) -> Scores:
    """The curve's limit and its standard error, named ``fid_infinity`` for Inception and ``fd_infinity`` otherwise."""
    name = f"{real.extractor.frechet}_infinity"
    return {name: curve.infinity, f"{name}_se": curve.infinity_se}


def ladder(
    images: Images, real: RealFeatures, evaluate: Evaluate, device: torch.device, ranks: Ranks = ALONE
) -> dict[str, list[Rung]]:
    """For each way of spoiling images, the scores by ``level``, ascending from 0: of the metrics that compare with real
    images and should see it.

    images: (N, C, H, W), the first N of those whose features are ``real.held_out``. Empty if ``evaluate.metrics`` has
    no such metric, or there are too few images.
    """
    seeing = tuple(
        name
        for name in evaluate.metrics
        if (judge := metric.get(name)).compares and any(SPOILING.keys() & one.sees for one in judge.scores)
    )
    enough = possible(evaluate.model_copy(update={"metrics": seeing}), real.extractor, len(images))
    if not enough.metrics:
        return {}
    clean = Features(*(part[: len(images)] for part in real.held_out))
    tasks: dict[tuple[str, float], Task] = {("", 0.0): partial(score, clean, real, enough)}
    for kind, (spoil, levels) in SPOILING.items():
        for level in levels:
            fake = extract(real.network, spoil(images, level), evaluate.batch_size, device, ranks)
            tasks[kind, level] = partial(score, fake, real, enough)
    results = ranks.run(tasks)
    return {
        kind: [{"level": level, **results[kind if level else "", level]} for level in (0.0, *levels)]
        for kind, (_, levels) in SPOILING.items()
    }


def unseen(rungs: dict[str, list[Rung]], real: RealFeatures) -> list[str]:
    """A line for each score that does not get worse with every step of damage that it should see."""
    lines = []
    for kind, steps in rungs.items():
        for one in metric.of_extractors():
            if kind not in one.sees or one.name not in steps[0]:
                continue
            values = [step[one.name] * (1 if one.direction == "lower" else -1) for step in steps]
            if any(after <= before and after != 0 for before, after in pairwise(values)):  # a share cannot fall below 0
                climb = ", ".join(f"{step[one.name]:.4g} at {step['level']:.3g}" for step in steps)
                lines.append(
                    f"{real.extractor.name}.{one.name} does not get worse with each step of {kind} on real test images "
                    f"({climb}): on this data it says little about image quality; trust other metrics more"
                )
    return sorted(lines)
