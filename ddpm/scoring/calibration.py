"""What the numbers mean on this data: the scores of real images that no model has seen.

The test split against the train split is the floor: no model needs to be closer. What each score notices of damage to
such images is measured by `ddpm sanity`.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm.data.processed import open_split
from ddpm.scoring import distances
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.limits import possible
from ddpm.scoring.reference import RealFeatures, load_features
from ddpm.scoring.scores import Scores, class_accuracy, with_curve

FILE = "calibration.json"  # in data/reference/
POOR = 0.5  # of the errors of a guess


def calibrate(evaluate: Evaluate, processed: Path, reference: Path, device: torch.device) -> dict[str, Scores]:
    """The floor by extractor: the content of ``FILE``.

    It includes ``count``, because the Fréchet distance falls as the number of images grows; in a split that is
    stratified by class it is also lower than for as many images drawn independently. Metrics for which the split is too
    small are left out.
    """
    labels = distances.part(open_split(processed, "test")[1], distances.MOST)
    floors = {}
    for name in evaluate.extractors:
        real = load_features(reference, name)
        enough = possible(evaluate, real.extractor, len(labels))
        floors[name] = {"count": len(labels), **with_curve(real.held_out, real, enough, device)[0]}
        recognise(real, labels)
    return floors


def recognise(real: RealFeatures, labels: NDArray[np.int64]) -> None:
    """Print the share of the test images whose class an extractor of the dataset's own classes recognises. Warn if it
    makes more than ``POOR`` of the errors of naming the commonest class for each image: then, however many classes
    there are, it hardly tells them apart.

    labels: (N,), of the images of ``real.held_out``.
    """
    if not real.extractor.knows_classes:
        return
    accuracy, guess = class_accuracy(real.held_out, labels), np.bincount(labels).max() / len(labels)
    name = real.extractor.name
    print(f"real test split, {name}: it recognises the class of {accuracy:.1%}; the commonest has {guess:.1%}")
    if 1 - accuracy > POOR * (1 - guess):
        print(
            f"warning: evaluate.extractors: {name} recognises the class of only {accuracy:.1%} of real test images, so "
            "its scores say little about what is in an image: take a pretrained extractor (docs/extractors.md), or "
            "more images",
            file=sys.stderr,
        )
