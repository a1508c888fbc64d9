"""The disk space that a run needs, before it starts: its stages' outs, DVC's copies of them, and MLflow's."""

from __future__ import annotations

import math

from ddpm.base.paths import PROCESSED
from ddpm.data.processed import read_manifest
from ddpm.forecast.estimate import length, sets, train_images
from ddpm.model import build
from ddpm.params.config import Config
from ddpm.scoring import extractor
from ddpm.scoring.distances import MOST
from ddpm.tracking import previews
from ddpm.tracking.store import Store

COPIES = 2  # of each stage's out: itself, and the one in DVC's cache
CHECKPOINTS = 3  # two generations, and one being written
TENSORS = 4  # float32 numbers in a checkpoint per weight: itself, its average, Adam's two moments
PICTURE = 2**15  # bytes of a PNG beyond its images' pixels, because it shows them enlarged
SHOWN = 600  # images in the pictures of samples and scores, with all their copies
RECORDS = 7 * 2**20  # bytes of the films, metrics/ and mlflow.db


def needed(settings: Config) -> int:
    """Bytes that a run needs besides its dataset, rather too many than too few.

    Left out: data/raw, data/processed, DVC's copies of both, and ``per_image`` of a dataset that is not here yet.
    Checkpoints count, although they are deleted when the model is sampled from.
    """
    pixels = math.prod(settings.data.shape)
    store = Store()
    local = store.database is not None and not store.off
    images = train_images(settings)
    steps, drawn = length(settings, images or 1000)
    # there is also a grid next to the checkpoints, and MLflow makes two pictures of it
    grids = drawn * (previews.IMAGES * pixels + PICTURE) * (COPIES + 1 + 2 * local)
    # snapshots of both kinds are also next to the checkpoints, and these have the two more averages
    kept = COPIES + CHECKPOINTS * TENSORS + len(settings.train.earlier(steps)) * (COPIES + 1)
    if posthoc := settings.train.posthoc:
        kept += 2 * CHECKPOINTS + 2 * (COPIES + 1) * posthoc.snapshots
    model = 4 * build.parameters(settings) * kept
    samples = COPIES * settings.sample.count * sets(settings, images or 1000) * pixels
    return model + grids + samples + _reference(settings, images) + SHOWN * pixels + RECORDS


def per_image(settings: Config) -> int:
    """Bytes that data/reference needs for each of the first images of a dataset; of train images it keeps MOST."""
    return COPIES * sum(4 * extractor.get(name).dimensions for name in settings.evaluate.chosen(0).extractors)


def _reference(settings: Config, images: int | None) -> int:
    """Weights and statistics of the extractors, and their features of the images if the number of images is known."""
    size = 0
    manifest = read_manifest(PROCESSED) if images is not None else None
    for name in settings.evaluate.chosen(len(manifest.classes) if manifest else 0).extractors:
        made = extractor.get(name)
        size += made.weights_size + 4 * made.dimensions + 8 * made.dimensions**2
        if manifest:
            logits = max(len(manifest.classes), made.dimensions // 2)  # Inception has its own 1,008 classes
            kept = min(manifest.counts["train"], MOST) * (made.dimensions + settings.evaluate.prc_neighborhood)
            size += 4 * (kept + manifest.counts["test"] * (made.dimensions + logits))
    return COPIES * size
