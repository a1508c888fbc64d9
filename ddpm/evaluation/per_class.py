"""What a model draws of each class that was asked for."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.base.files import Rows
from ddpm.scoring.features import Features
from ddpm.scoring.frechet import Distance
from ddpm.scoring.reference import RealFeatures
from ddpm.scoring.scores import class_accuracy

Labels = NDArray[np.int64]


def rows(real: RealFeatures, train: Labels, sets: Sequence[Features], labels: Labels, names: Sequence[str]) -> Rows:
    """A row for each class that was asked for: extractor, class, name, images (of one set), and means over the sets.

    class_accuracy: of the class's images, if the extractor knows classes. fd: the Fréchet distance to the class's train
    images; empty unless both are more than the extractor's features, or a covariance would be singular.
    """
    table: Rows = []
    for label in np.unique(labels).tolist():
        of_class, theirs = labels == label, real.features[torch.from_numpy(train[real.rows] == label)]
        row: dict[str, float | int | str] = {
            "extractor": real.extractor.name, "class": label, "name": names[label], "images": int(of_class.sum())
        }  # fmt: skip
        parts = [Features(*(part[torch.from_numpy(of_class)] for part in features)) for features in sets]
        known = real.extractor.knows_classes
        row["class_accuracy"] = (
            float(np.mean([class_accuracy(part, labels[of_class]) for part in parts])) if known else ""
        )
        row["fd"] = ""
        if min(int(of_class.sum()), len(theirs)) > real.extractor.dimensions:
            double = theirs.double()
            distance = Distance(double.mean(0).numpy(), torch.cov(double.T).numpy(), torch.device("cpu"))
            row["fd"] = float(np.mean([distance(part.features) for part in parts]))
        table.append(row)
    return table
