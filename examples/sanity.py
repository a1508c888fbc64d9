"""Which scores notice what: real test images, damaged in ways that a score should see, on your own data.

`python examples/sanity.py` reads params.yaml and what `dvc repro reference` made, prints a table and writes sanity.png.
docs/metrics.md explains the table.

Every metric has blind spots, and they depend on the data, the features and the number of images (Räisä et al. 2025,
arXiv:2505.22450). So sets of real test images are scored like samples, whole and damaged, and the question is how often
a damaged set scores worse than a whole one. A set has at most half of the test split, so that sets differ.
"""

import argparse
import io
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter
from tqdm import tqdm

from ddpm.base.errors import UserError, exit_code
from ddpm.base.images import Images
from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.compute import devices, noise
from ddpm.data.processed import open_split
from ddpm.params import config, credit
from ddpm.pictures import grids
from ddpm.referee import metrics
from ddpm.report import render
from ddpm.report.blocks import Chapter, Table
from ddpm.scoring import metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, RealFeatures, extract
from ddpm.scoring.limits import possible_metrics
from ddpm.scoring.reference import load_features, read_reference
from ddpm.scoring.scores import score

SETS = 8
SHOWN = 12  # images of each damage in the picture
SEED = 2020
BLUR, NOISE = 1 / 32, 1 / 16  # of the images' sides, and of the range of grey levels
QUALITY = 25  # of JPEG: blocks can be seen
TOWARDS = 0.15  # of the way to the class's mean
FEW = 7  # images of a set for each of the images that they are copies of
STEPS, STEP = 300, 0.05  # of the fit of noise images
DIFFERENTIABLE = ("classifier", "random_conv")  # extractors whose networks take a gradient
SEES, BLIND = 0.9, 0.7  # of the pairs of a damaged and a whole set, those in which the damaged one scores worse
WHOLE, STATIC, FITTED = "whole", "pure noise", "fitted noise"

Rows = NDArray[np.int64]


def blur(images: Images, level: float) -> Images:
    """Gaussian blur with a standard deviation of ``level`` times the image's height and width; edges are repeated."""
    sigma = (0, 0, level * images.shape[2], level * images.shape[3])
    return gaussian_filter(images.astype(np.float32), sigma, mode="nearest").round().astype(np.uint8)


def add_noise(images: Images, level: float) -> Images:
    """Add Gaussian noise with a standard deviation of ``level`` times the range of grey levels; the draws are the same
    at every level."""
    drawn = noise.gaussian(SEED, "calibration", torch.arange(len(images)), 0, images.shape[1:]).numpy()
    return (images + np.float32(255 * level) * drawn).round().clip(0, 255).astype(np.uint8)


def compress(images: Images) -> Images:
    """uint8 (N, C, H, W) after JPEG; C of 1 or 3."""
    coded = []
    for image in images.transpose(0, 2, 3, 1):
        file = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "JPEG", quality=QUALITY)
        coded.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(coded).transpose(0, 3, 1, 2)


def move_to_mean(images: Images, labels: Rows, share: float) -> Images:
    """Images moved by ``share`` of the way to the mean of their class, as those of a model without diversity are."""
    moved = images.astype(np.float32)
    for label in np.unique(labels):
        moved[labels == label] += share * (moved[labels == label].mean(0) - moved[labels == label])
    return moved.round().astype(np.uint8)


def fit_noise(real: RealFeatures, start: Images, steps: int) -> Images:
    """Images from noise, ``start``, fitted to the Fréchet distance of one extractor, and to nothing else."""
    target, network = real.distance, real.network.to(real.device)
    share = torch.from_numpy(start).to(real.device).float().clamp(1, 254) / 255
    pixels = share.logit().requires_grad_()
    optimizer = torch.optim.Adam([pixels], STEP)
    for _ in range(steps):
        features = network(255 * pixels.sigmoid()).features.double()
        sigma = torch.cov(features.T)
        product = torch.linalg.eigvalsh(target.root @ sigma @ target.root).clamp(min=1e-12).sqrt().sum()
        distance = (features.mean(0) - target.mu).square().sum() + sigma.trace() - 2 * product
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
    return (255 * pixels.detach().sigmoid()).round().to(torch.uint8).cpu().numpy()


def spoil(images: Images, labels: Rows) -> dict[str, Images]:
    """The images by damage, of those that they allow: JPEG needs one channel or three."""
    kinds: Mapping[str, Callable[[], Images]] = {
        "blur": lambda: blur(images, BLUR),
        "smoothed": lambda: median_filter(images, (1, 1, 3, 3), mode="nearest"),
        "noise": lambda: add_noise(images, NOISE),
        STATIC: lambda: add_noise(np.full_like(images, 128), 0.5),  # what sampling starts from
        "JPEG": lambda: compress(images),
        "towards class mean": lambda: move_to_mean(images, labels, TOWARDS),
    }
    return {name: make() for name, make in kinds.items() if name != "JPEG" or images.shape[1] in (1, 3)}


class Drawn(NamedTuple):
    """A set of images: ``rows`` of an array, its source: WHOLE, the test images followed by train images, or the test
    images after one of the damages of ``spoil``."""

    damage: str
    source: str
    rows: Rows


def draw_sets(labels: Rows, count: int, pool: int) -> Iterator[Drawn]:
    """SETS whole sets, and as many of each damage that chooses among images. Set k of each has the same
    generator, and leaves out or doubles the k-th of the classes in turn.

    labels: of the test split. pool: the number of train images to choose from.
    """
    classes = np.unique(labels)
    for number in range(SETS):
        order = np.random.default_rng([SEED, number]).permutation(len(labels))
        train = len(labels) + np.random.default_rng([SEED, number]).permutation(pool)
        copies = train[: count // 2]
        sets = {WHOLE: order[:count]}
        sets["train copies"] = np.concatenate([order[: count - len(copies)], copies])
        sets["copies of few"] = np.resize(train[: max(1, count // FEW)], count)
        if len(classes) > 1:
            one = labels[order] == classes[number % len(classes)]
            rest = order[~one]
            if len(rest) >= count:
                sets["class left out"] = rest[:count]
            # twice its share of the set, made up for by fewer of the others
            twice = np.resize(order[one], min(count, 2 * int(np.count_nonzero(one[:count]))))
            sets["class doubled"] = np.concatenate([twice, rest])[:count]
        yield from (Drawn(damage, WHOLE, rows) for damage, rows in sets.items())


# score -> damage -> the share of pairs of a damaged and a whole set in which the damaged one scores worse: 1 if the
# score always notices it, 0.5 if never, less if damage passes for an improvement
Shares = dict[str, dict[str, float]]


def measure(
    evaluate: Evaluate, count: int, processed: Path, reference: Path, device: torch.device, steps: int = STEPS
) -> Shares:
    """Score whole and damaged sets of ``count`` real test images by every metric of ``evaluate`` for which they are
    enough. steps: of the fit of noise images to the first extractor; 0 leaves them out.

    Raises UserError if there are too few test images for any metric.
    """
    (test, labels), (train, _) = open_split(processed, "test"), open_split(processed, "train")
    pool = np.sort(np.random.default_rng(SEED).permutation(len(train))[: min(len(train), len(test))])
    spoiled, sets = spoil(np.array(test), labels), list(draw_sets(labels, count, len(pool)))
    sources = {WHOLE: np.concatenate([test, train[pool]]), **spoiled}
    sets += [Drawn(name, name, one.rows) for one in sets if one.damage == WHOLE for name in spoiled]
    values: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)  # score -> damage -> of each set

    def keep(name: str, damage: str, scores: Mapping[str, float]) -> None:
        for key, value in scores.items():
            values[f"{name}.{key}"].setdefault(damage, []).append(value)

    for name in read_reference(reference).resolve(evaluate).extractors:
        real = load_features(reference, name, device)
        options = possible_metrics(evaluate, real.extractor, count)
        if not options.metrics:
            raise UserError(
                f"data/processed/test: sets of {count:,} of its {len(test):,} images are too few for all of "
                f"evaluate.metrics with {name}: raise data.test_fraction, or lower evaluate.kid_subset_size"
            )
        if steps and FITTED not in sources and name in DIFFERENTIABLE and "fid" in options.metrics:
            sources[FITTED] = fit_noise(real, spoiled[STATIC][:count], steps)
            sets.append(Drawn(FITTED, FITTED, np.arange(count)))
        features = {
            source: extract(real.network, images, options.batch_size, device) for source, images in sources.items()
        }
        for one in tqdm(sets, f"sanity, {name}"):
            part = Features(*(tensor[one.rows] for tensor in features[one.source]))
            keep(name, one.damage, score(part, real, options))
    real_images = np.array(train)
    for judge in metric.of_images(evaluate):
        c2st = evaluate.c2st.model_copy(update={"images": min(evaluate.c2st.images, count)})
        options = evaluate.model_copy(update={"c2st": c2st})
        for one in tqdm(sets, f"sanity, {judge.name}"):
            keep(judge.name, one.damage, judge.measure(sources[one.source][one.rows], real_images, options, device))
    shares: Shares = {}
    for key, table in ((key, table) for key, table in values.items() if metrics.is_judged(key)):
        whole, lower = np.array(table.pop(WHOLE)), metrics.direction(key) == "lower"
        shares[key] = {damage: worse(np.array(row), whole, lower) for damage, row in table.items()}
    return shares


def worse(damaged: NDArray[np.float64], whole: NDArray[np.float64], lower: bool) -> float:
    """Of all pairs, the share in which the damaged set scores worse; equal scores count half. lower: is better."""
    gaps = np.subtract.outer(damaged, whole) * (1 if lower else -1)
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def verdict(share: float) -> str:
    """``sees``, ``partly`` or ``blind``; ``misled`` if damage is taken for an improvement."""
    if share >= SEES:
        return "sees"
    return "misled" if share <= 1 - SEES else "partly" if share >= BLIND else "blind"


def show(shares: Shares, count: int) -> Table:
    """A row for each damage and a column for each score."""
    rows = [
        [damage, *(f"{verdict(row[damage])} ({row[damage]:.2f})" if damage in row else "-" for row in shares.values())]
        for damage in dict.fromkeys(damage for row in shares.values() for damage in row)
    ]
    caption = (
        f"What each score notices in {SETS} sets of {count:,} real test images. In parentheses: of the pairs "
        "of a damaged and an intact set, the share in which the damaged one scores worse. "
        f"sees: at least {SEES:g}; blind: below {BLIND:g}; misled: at most {1 - SEES:.1f}: damage passes for progress."
    )
    return Table(["", *shares], rows, caption)


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    options.add_argument("--fit", type=int, default=STEPS, help="steps to fit noise images to a score (0: none)")
    options.add_argument("--out", type=Path, default=Path("sanity.png"), help="picture to write, of the damages")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print what each score notices, and draw some test images: whole, then by each damage. Raises UserError."""
    given, checked = parser().parse_args(arguments), config.load()
    credit.refuse_other_params(checked, "preprocess", "reference")
    images, labels = open_split(PROCESSED, "test")
    count, device = min(checked.sample.count, len(images) // 2), devices.resolve(checked.device)
    shares = measure(checked.evaluate, count, PROCESSED, REFERENCE, device, given.fit)
    spoiled = spoil(np.array(images), labels)
    grids.save_rows({name: some[:SHOWN] for name, some in {WHOLE: images, **spoiled}.items()}, given.out)
    print(render.text([Chapter("", [show(shares, count)])]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
