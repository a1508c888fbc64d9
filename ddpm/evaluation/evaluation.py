"""A model's evaluation: its sets' scores, how close they come to train images, and its likelihood.

Each set of samples is scored separately. evaluate.json holds the mean over the sets and, for comparison, the scores of
real images and of the yardsticks, at the same number of images where there are as many.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.base import files, paths
from ddpm.base.errors import UserError
from ddpm.base.files import Rows
from ddpm.base.images import Images
from ddpm.compute.distributed import ALONE, Ranks
from ddpm.data.processed import check_classes, open_split
from ddpm.evaluation import bounds
from ddpm.evaluation.bounds import Job
from ddpm.pictures import grids
from ddpm.sampling.samples import read_labels, read_samples
from ddpm.scoring import distances, frechet, memorisation, metric, panel
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, RealFeatures, extract
from ddpm.scoring.limits import possible_metrics
from ddpm.scoring.memorisation import Nearest, nearest
from ddpm.scoring.reference import (
    PIXELS,
    REAL,
    Reference,
    class_accuracy,
    load_features,
    load_pixels,
    read_reference,
)
from ddpm.scoring.scores import with_curve

YARDSTICKS = "yardsticks"  # in evaluate.json: by yardstick and extractor
PAIRS = 12  # samples that nearest.png shows with their nearest train images, for each space


class Evaluation(NamedTuple):
    """scores: the content of evaluate.json. The rest are rows of CSV files, and the images of nearest.png.

    sets: seed and all scores of each set. fd_n: extractor, n, fd and fd_sd, the Fréchet distance against N. bound:
    ``bounds.likelihood_rows``. nearest: ``pairs``. real: what they were compared with. labels: the classes that were
    asked for, if any were.
    """

    scores: dict[str, Any]
    sets: Rows
    fd_n: Rows
    bound: Rows
    nearest: NDArray[np.uint8]
    real: Real
    labels: NDArray[np.int64] | None


def write(evaluation: Evaluation, points: Rows) -> None:
    """Write the scores' files in metrics/ and data/evaluation/. points: ``learning_curve``."""
    files.write_rows(paths.METRICS / "scores.csv", evaluation.sets, ["seed"])
    files.write_rows(paths.CURVE, points, ["images"])
    files.write_rows(paths.FD_N, evaluation.fd_n, ["extractor", "n", "fd", "fd_sd"])
    files.write_rows(paths.LIKELIHOOD, evaluation.bound, ["t", "steps"])
    columns, *shape = evaluation.nearest.shape[1:]
    grids.save_grid(evaluation.nearest.reshape(-1, *shape), paths.EVALUATION / "nearest.png", columns)
    files.write_json(paths.EVALUATE, evaluation.scores)


class Report(NamedTuple):
    """One set of samples: its images, its scores, nested as in evaluate.json, its Fréchet distances against N by
    extractor, and its nearest train images by space."""

    images: Images
    scores: dict[str, Any]
    curves: dict[str, frechet.Curve]
    nearest: dict[str, Nearest]


def evaluate(sets: dict[int, Path], job: Job) -> Evaluation:
    """Score ``sets``, .npy files of uint8 (N, C, H, W) by seed, and the model that drew them.

    Raises UserError if a score is not a finite number.
    """
    labels = test_labels = None
    if count := job.model.config.model.classes:
        check_classes(job.processed, count)
        labels = read_labels(next(iter(sets.values())).parent)
        test_labels = distances.part(open_split(job.processed, "test")[1], distances.MOST)
    real = Real.open(job.processed, job.reference, job.evaluate, job.device)
    reports = report_sets(sets, real, job, labels)
    terms = bounds.likelihoods(job)
    others = comparison(real, len(reports[0].images), job.evaluate, test_labels)
    scores = mean([one.scores for one in reports]) | {REAL: others.pop(REAL), YARDSTICKS: others}
    scores |= bounds.bits_per_dim(terms)
    if bad := [name for name, value in files.flatten(scores).items() if not math.isfinite(value)]:
        raise UserError(f"evaluate: {', '.join(bad)} is not a finite number: look at the samples and the loss curve")
    return Evaluation(
        scores,
        [{"seed": seed, **files.flatten(one.scores)} for seed, one in zip(sets, reports, strict=True)],
        fd_rows([one.curves for one in reports]),
        bounds.likelihood_rows(terms),
        pairs(reports[0], real),
        real,
        labels,
    )


def comparison(
    real: Real, count: int, evaluate: Evaluate, labels: NDArray[np.int64] | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of ``count`` images of each yardstick and of ``REAL`` test images, or of as many as there are: by name
    and extractor, with the number of images, ``count``. Metrics for which they are too few are left out. labels: of the
    test images, for a model with classes.

    The test split against the train split is the floor: no model needs to be closer. In a split that is stratified by
    class it is lower than for as many images drawn independently.
    """
    scores = {of: {**others} for of, others in real.reference.others.items()}
    for name, features in real.features.items():
        for of, drawn in {REAL: features.held_out, **features.yardsticks}.items():
            some = Features(*(distances.part(part, count) for part in drawn))
            size = len(some.features)
            enough = possible_metrics(evaluate, features.extractor, size)
            scores[of][name] = {"count": size, **with_curve(some, features, enough)[0]}
        scores[REAL][name] |= measure_accuracy(features.held_out, features, labels)
    return scores


def report_sets(sets: Mapping[int, Path], real: Real, job: Job, labels: NDArray[np.int64] | None) -> list[Report]:
    """Score each set, of which the params were checked: their shape and their number suit the metrics."""
    return [report(read_samples(path), real, job.evaluate, job.ranks, labels) for path in sets.values()]


class Real(NamedTuple):
    """The real images that samples are compared with, on a device.

    train: (M, C, H, W), at most ``distances.MOST`` of the train split; features: by extractor; held_out: the nearest of
    those to each test image, by space; new: whether each test image is not a copy of one of those.
    """

    reference: Reference
    device: torch.device
    train: Images
    features: dict[str, RealFeatures]
    held_out: dict[str, Nearest]
    new: NDArray[np.bool_]

    @classmethod
    def open(cls, processed: Path, reference: Path, evaluate: Evaluate, device: torch.device) -> Real:
        features = {name: load_features(reference, name, device) for name in evaluate.extractors}
        pixels = load_pixels(reference)
        held_out = {PIXELS: pixels} | {name: part.nearest for name, part in features.items()}
        train = distances.part(open_split(processed, "train")[0], distances.MOST)
        return cls(read_reference(reference), device, train, features, held_out, pixels.distance > 0)


def measure_accuracy(features: Features, real: RealFeatures, labels: NDArray[np.int64] | None) -> dict[str, float]:
    """The ``class_accuracy`` of images that should show these classes, by an extractor that knows classes."""
    if labels is None or not real.extractor.knows_classes:
        return {}
    return {"class_accuracy": class_accuracy(features, labels)}


def report(
    images: Images, real: Real, evaluate: Evaluate, ranks: Ranks = ALONE, labels: NDArray[np.int64] | None = None
) -> Report:
    """Score one set of uint8 (N, C, H, W) images; labels: (N,), the classes that were asked for, if any were."""
    near = {PIXELS: nearest(images, real.train, real.device)}
    scores: dict[str, Any] = {}
    curves, fakes = {}, {}
    for name, features in real.features.items():
        fake = fakes[name] = extract(features.network, images, evaluate.batch_size, features.device, ranks)
        near[name] = nearest(fake.features, features.features, features.device)
        scores[name], curve = with_curve(fake, features, evaluate)
        scores[name] |= measure_accuracy(fake, features, labels)
        if curve:
            curves[name] = curve
    for judge in metric.of_images(evaluate):
        scores[judge.name] = judge.measure(images, real.train, evaluate, real.device)
    seen = (each.get(metric.OPPONENT, {}) for each in (scores, panel.find_yardstick(real.reference.others)))
    if eyes := panel.measure_panel(fakes, real.features, *seen):
        scores[panel.NAME] = eyes
    closeness = {space: memorisation.closeness(part, real.held_out[space], real.new) for space, part in near.items()}
    for name, features in real.features.items():
        if closeness[name]:
            for key, found in {"authentic": near[name], "authentic_expected": features.nearest}.items():
                closeness[name][key] = memorisation.authentic(found, features.apart[found.row])
    for space in (space for space, numbers in closeness.items() if ranks.main and not numbers):
        print(f"warning: memorisation.{space}: the test images are train images: nothing to compare", file=sys.stderr)
    scores["memorisation"] = {space: numbers for space, numbers in closeness.items() if numbers}
    return Report(images, scores, curves, near)


def mean(values: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean of nested numbers, key by key. Standard errors, ``*_se``, of independent sets give that of the mean."""
    means: dict[str, Any] = {}
    for key, first in values[0].items():
        column = [value[key] for value in values]
        if isinstance(first, dict):
            means[key] = mean(column)
        else:
            means[key] = float(np.linalg.norm(column) / len(column) if key.endswith("_se") else np.mean(column))
    return means


def fd_rows(curves: Sequence[dict[str, frechet.Curve]]) -> Rows:
    """The sets' Fréchet distances against N, averaged over the sets."""
    rows: Rows = []
    for name in curves[0]:
        fd, fd_sd = (np.mean([getattr(curve[name], key) for curve in curves], axis=0) for key in ("fd", "fd_sd"))
        for n, value, sd in zip(curves[0][name].n, fd, fd_sd, strict=True):
            rows.append({"extractor": name, "n": int(n), "fd": value, "fd_sd": "" if math.isnan(sd) else sd})
    return rows


def pairs(drawn: Report, real: Real) -> NDArray[np.uint8]:
    """(rows, columns, C, H, W): for each space, pixels first, a row of the samples that are relatively closest to a
    train image, closest first, and below it the row of those train images."""
    rows = []
    for neighbours in drawn.nearest.values():
        closest = np.argsort(neighbours.relative, kind="stable")[:PAIRS]
        rows += [drawn.images[closest], real.train[neighbours.row[closest]]]
    return np.stack(rows)


def learning_curve(evaluation: Evaluation, snapshots: Mapping[int, Mapping[int, Path]], job: Job) -> Rows:
    """A row for each of the model's snapshots, in order, and a last one for the model: images, the number seen by
    training, and each score, the mean over the sets.

    evaluation: the model's. snapshots: images seen -> the sets' files by seed. Scores are text that gives back their
    very value; empty if it is not finite.
    """
    end = job.model.facts["steps"] * job.model.written["train"]["batch_size"]
    points: dict[int, dict[str, float]] = {}
    for images, sets in snapshots.items():
        reports = report_sets(sets, evaluation.real, job, evaluation.labels)
        points[images] = files.flatten(mean([one.scores for one in reports]))
    scores = files.flatten(evaluation.scores)
    points[end] = {name: scores[name] for name in evaluation.sets[0] if name in scores}
    return [
        {"images": images, **{name: repr(value) if math.isfinite(value) else "" for name, value in row.items()}}
        for images, row in points.items()
    ]
