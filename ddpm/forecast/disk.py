"""What a run takes of the disk, before it starts: what each stage writes, DVC's copies of it, and MLflow's."""

from __future__ import annotations

from ddpm.base.paths import PROCESSED
from ddpm.data.processed import read_manifest
from ddpm.evaluation.evaluation import PAIRS
from ddpm.forecast.estimate import grids_drawn, train_images
from ddpm.params.config import Config
from ddpm.sampling.generator import FILM_FRAMES, FILM_IMAGES
from ddpm.scoring import extractor
from ddpm.tracking import previews
from ddpm.tracking.store import Store
from ddpm.training.history import ROWS, Row

COPIES = 2  # of each out of a stage: itself, and the one in DVC's cache
CHECKPOINTS = 3  # two generations and the one that is being written
TENSORS = 4  # float32 numbers that a checkpoint holds of each weight: itself, its average, Adam's two moments
PICTURE = 2**15  # bytes that a PNG takes beyond its images' pixels: it shows them enlarged
DATASET_IMAGES, FORWARD_IMAGES = 120, 48  # of dataset.png and forward.png
FRAME = 75_000  # bytes of a frame of reverse.mp4 or reverse.gif, at most
STORE = 2**20  # bytes of mlflow.db before the first run
VALUE = 300  # bytes in mlflow.db of one value of a metric
SYSTEM_VALUES = 3600  # of the machine's load in an hour; each further hour of training adds a MiB
RECORDS = 200_000  # bytes of metrics/, of calibration.json, and of what DVC writes down of each stage


def needed(settings: Config, parameters: int) -> int:
    """Bytes that a run of a network of so many ``parameters`` takes at most, on top of its dataset: data/raw,
    data/processed and DVC's copies of both are not among them, nor is ``per_image`` of a dataset that is not here yet.

    Checkpoints are deleted when the model is sampled from; until then they need their room.
    """
    data, sample = settings.data, settings.sample
    pixels = data.channels * data.image_size**2
    store = Store()
    local = store.database is not None and not store.off
    images = train_images(settings)

    model = 4 * parameters * (COPIES + CHECKPOINTS * TENSORS)
    per_epoch = (images or 1000) / settings.train.batch_size
    steps = settings.train.steps or (settings.train.epochs or 0) * per_epoch
    # a grid lies beside the checkpoints, too, and MLflow makes two pictures of it
    grids = (
        grids_drawn(settings.train, steps, per_epoch) * _picture(previews.IMAGES * pixels) * (COPIES + 1 + 2 * local)
    )
    samples = COPIES * sample.count * len(sample.seeds) * pixels
    nearest = 2 * PAIRS * (1 + len(settings.evaluate.extractors))
    shown = (min(FILM_IMAGES, sample.count), FORWARD_IMAGES, nearest)
    pictures = sum(_picture(count * pixels) for count in shown) * (COPIES + local)
    films = FRAME * min(FILM_FRAMES, sample.steps + 1) * (2 * COPIES + local)  # MLflow gets the first of two
    values = len(Row._fields) * min(ROWS, round(steps)) + SYSTEM_VALUES
    database = store.absent * STORE + VALUE * values + _picture(DATASET_IMAGES * pixels)
    return model + grids + samples + pictures + films + local * database + _reference(settings, images) + RECORDS


def per_image(settings: Config) -> int:
    """Bytes that data/reference takes of each image of a dataset."""
    return COPIES * sum(4 * extractor.get(name).dimensions for name in settings.evaluate.extractors)


def _picture(pixels: int) -> int:
    return pixels + PICTURE


def _reference(settings: Config, images: int | None) -> int:
    """Weights and statistics of the extractors, and their features of the images, where these are known."""
    size = 0
    manifest = read_manifest(PROCESSED) if images is not None else None
    for name in settings.evaluate.extractors:
        made = extractor.get(name)
        size += made.weights_size + 4 * made.dimensions + 8 * made.dimensions**2
        if manifest:
            logits = max(len(manifest.classes), made.dimensions // 2)  # Inception has its own 1,008 classes
            size += 4 * (sum(manifest.counts.values()) * made.dimensions + manifest.counts["test"] * logits)
    return COPIES * size
