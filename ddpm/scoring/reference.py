"""The extractors' features of the real images: made once per dataset and extractor, and read for every score.

data/reference/ holds ``weights.safetensors`` and ``features.safetensors`` for each extractor, how near the test images
come to train images in their pixels, and ``reference.json`` with the sha256 of each and of the images. The features are
of the real images, and of the yardsticks (ddpm/scoring/yardsticks.py). What compares pairs of images looks at a fixed
part of at most ``distances.MOST`` train images; means and covariances are of all. torch-fidelity's own cache is not
used, because it is keyed only by name and read by an unrestricted unpickler.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddpm.base.files import atomic_path, read_json, sha256, write_json
from ddpm.base.images import Images
from ddpm.data.processed import Manifest, open_split, read_manifest
from ddpm.scoring import distances, extractor, frechet, memorisation, metric, yardsticks
from ddpm.scoring.evaluate_params import AUTO, Evaluate
from ddpm.scoring.extractor import Extractor
from ddpm.scoring.features import Features, RealFeatures, extract
from ddpm.scoring.memorisation import Nearest

WEIGHTS = "weights.safetensors"
FEATURES = "features.safetensors"
PIXELS = "pixels"
REAL = "real"  # in evaluate.json and ``Reference.others``: the scores of test images
NEAREST = f"{PIXELS}.safetensors"
YARDSTICK = "yardstick"  # begins the names of their features in FEATURES
NEAR = "nearest"  # begins the names of a ``Nearest``'s fields in files
AT_ONCE = 2**16  # train images whose features are in memory at once; a multiple of frechet.ROWS
INDEX = "reference.json"
POOR = 0.5  # of the errors of a guess


class Reference(BaseModel, frozen=True):
    """The content of ``reference.json``.

    manifest: of the real images; extractors: the sha256 of each extractor's files, by extractor and file name; config:
    identity of the settings that made it; others: the scores of the yardsticks, and of real test images if they are
    enough, by metrics of the images themselves: by what they are of, and metric.
    """

    manifest: Manifest
    extractors: dict[str, dict[str, str]]
    config: str
    others: dict[str, dict[str, dict[str, float]]]

    def resolve(self, evaluate: Evaluate) -> Evaluate:
        """The same with what ``auto`` stood for when the reference was made."""
        if AUTO not in evaluate.extractors:
            return evaluate
        return evaluate.model_copy(update={"extractors": tuple(self.extractors)})


def make_reference(evaluate: Evaluate, processed: Path, folder: Path, device: torch.device) -> None:
    """Write ``folder`` for the extractors in ``evaluate``, completely or not at all; ``auto`` is resolved.

    Raises UserError when weights are not available or the dataset does not suit an extractor.
    """
    manifest = read_manifest(processed)
    identity, evaluate = evaluate.reference_identity(), evaluate.resolve(len(manifest.classes), manifest.channels)
    images, labels = open_split(processed, "train")
    drawn = yardsticks.draw(images, labels)
    test_images, test_labels = open_split(processed, "test")
    held_out = distances.part(test_images, distances.MOST)
    with atomic_path(folder) as temporary:
        digests = {}
        for name in evaluate.extractors:
            variant, place = extractor.get(name), temporary / name
            place.mkdir(parents=True)
            variant.write_weights(processed, place / WEIGHTS, device)
            network = variant.load(place / WEIGHTS)
            features, statistics = _of_train(network, images, evaluate.batch_size, device)
            test, *others = (
                extract(network, some, evaluate.batch_size, device) for some in (held_out, *drawn.values())
            )
            recognise(variant, test, distances.part(test_labels, distances.MOST))
            k = min(evaluate.prc_neighborhood, len(features))
            tensors = {"features": features, "around": distances.neighbours(features.to(device), k).cpu()}
            tensors |= _by_field("test", test) | {key: torch.from_numpy(value) for key, value in statistics.items()}
            for yardstick, its in zip(drawn, others, strict=True):
                tensors |= _by_field(f"{YARDSTICK}.{yardstick}", its)
            tensors |= _by_field(NEAR, memorisation.nearest(test.features, features, device))
            save_file(tensors, place / FEATURES)
            digests[name] = {file.name: sha256(file) for file in sorted(place.iterdir())}
        near = memorisation.nearest(held_out, distances.part(images, distances.MOST), device)
        save_file(_by_field(NEAR, near), temporary / NEAREST)
        scores = _score_others({REAL: held_out, **drawn}, images, evaluate, device)
        index = Reference(manifest=manifest, extractors=digests, config=identity, others=scores)
        write_json(temporary / INDEX, index.model_dump(mode="json"))


def _score_others(
    others: Mapping[str, Images], train: Images, evaluate: Evaluate, device: torch.device
) -> dict[str, dict[str, dict[str, float]]]:
    judges = [(judge, judge.least(evaluate, 0)[0]) for judge in metric.of_images(evaluate)]
    return {
        name: {
            judge.name: {"count": count, **judge.measure(images, train, evaluate, device)}
            for judge, count in judges
            if len(images) >= count
        }
        for name, images in others.items()
    }


def recognise(variant: Extractor, held_out: Features, labels: NDArray[np.int64]) -> None:
    """Print the share of the test images whose class an extractor of the dataset's own classes recognises. Warn if it
    makes more than ``POOR`` of the errors of naming the commonest class for each image: then, however many classes
    there are, it hardly tells them apart.

    labels: (N,), of the images.
    """
    if not variant.knows_classes:
        return
    accuracy, guess = class_accuracy(held_out, labels), np.bincount(labels).max() / len(labels)
    print(f"{variant.name} recognises the class of {accuracy:.1%} of real test images; the commonest has {guess:.1%}")
    if 1 - accuracy > POOR * (1 - guess):
        print(
            f"warning: evaluate.extractors: {variant.name} recognises the class of only {accuracy:.1%} of real test "
            "images, so its scores say little: take a pretrained extractor (docs/extractors.md), or more images",
            file=sys.stderr,
        )


def class_accuracy(fake: Features, labels: NDArray[np.int64]) -> float:
    """The share of images that an extractor takes for what their (N,) labels say."""
    return float((fake.logits.argmax(1).numpy() == labels).mean())


def _of_train(
    network: nn.Module, images: Images, batch_size: int, device: torch.device
) -> tuple[Tensor, dict[str, NDArray[np.floating]]]:
    """The features of the part that is compared, and ``frechet.statistics`` of all, a few of which are in memory."""
    if len(images) <= distances.MOST:
        features = extract(network, images, batch_size, device).features
        return features, frechet.statistics(features)
    compared, parts = distances.rows(len(images), distances.MOST), []

    def blocks() -> Iterator[Tensor]:
        for first in range(0, len(images), AT_ONCE):
            features = extract(network, images[first : first + AT_ONCE], batch_size, device).features
            parts.append(features[compared[(compared >= first) & (compared < first + AT_ONCE)] - first])
            yield from features.split(frechet.ROWS)

    statistics = frechet.merge_moments(blocks())
    return torch.cat(parts), statistics


def _by_field(name: str, fields: Features | Nearest) -> dict[str, Tensor]:
    """The tensors of a file, which names each after its field."""
    return {f"{name}.{field}": torch.as_tensor(value) for field, value in fields._asdict().items()}


def _as_nearest(tensors: dict[str, Tensor]) -> Nearest:
    return Nearest(*(tensors[f"{NEAR}.{field}"].numpy() for field in Nearest._fields))


def read_reference(folder: Path) -> Reference:
    """Raises UserError when the reference stage has not run."""
    return read_json(folder / INDEX, Reference)


def load_features(folder: Path, name: str, device: torch.device) -> RealFeatures:
    """The features of extractor ``name`` from the reference in ``folder``, without reading any image."""
    variant = extractor.get(name)
    tensors = load_file(folder / name / FEATURES)
    return RealFeatures(
        extractor=variant,
        device=device,
        network=variant.load(folder / name / WEIGHTS),
        features=tensors["features"],
        mu=tensors["mu"].numpy(),
        sigma=tensors["sigma"].numpy(),
        held_out=Features(tensors["test.features"], tensors["test.logits"]),
        nearest=_as_nearest(tensors),
        around=tensors["around"],
        yardsticks={
            yardstick: Features(*(tensors[f"{YARDSTICK}.{yardstick}.{field}"] for field in Features._fields))
            for yardstick in yardsticks.NAMES
            if f"{YARDSTICK}.{yardstick}.features" in tensors
        },
    )


def load_pixels(folder: Path) -> Nearest:
    """The train image nearest to each test image, by their pixels."""
    return _as_nearest(load_file(folder / NEAREST))
