"""How a model's scores changed while it learned: metrics/curve.csv."""

import math
from collections.abc import Mapping
from pathlib import Path

from ddpm.base import files
from ddpm.base.files import Rows
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.evaluation import Evaluation, mean, read_set, report
from ddpm.sampling.samples import read_labels
from ddpm.scoring.reference import read_reference


def curve(evaluation: Evaluation, snapshots: Mapping[int, Mapping[int, Path]], samples: Path, job: Job) -> Rows:
    """A row for each of the model's snapshots, in order, and a last one for the model: images, the number seen by
    training, and each score, the mean over the sets.

    evaluation: the model's. snapshots: images seen -> the sets' files by seed. samples: the folder of the model's
    sets. Scores are text that gives back their very value; empty if it is not finite.
    """
    end = job.model.facts["steps"] * job.model.written["train"]["batch_size"]
    index, count = read_reference(job.reference), job.model.config.model.classes
    points = {}
    for images, sets in snapshots.items():
        drawn = [read_set(path, index, job.evaluate) for path in sets.values()]
        labels = read_labels(samples) if count else None
        reports = [report(part, evaluation.real, job.evaluate, job.ranks, labels) for part in drawn]
        points[images] = files.flatten(mean([one.scores for one in reports]))
    scores = files.flatten(evaluation.scores)
    points[end] = {name: scores[name] for name in evaluation.sets[0] if name in scores}
    return [{"images": images, **{name: _text(value) for name, value in row.items()}} for images, row in points.items()]


def _text(value: float) -> str:
    return repr(value) if math.isfinite(value) else ""
