"""Which scores notice what: real test images, damaged in ways that a score should see, on your own data.

`python examples/sanity.py` reads params.yaml and what `dvc repro reference` made, prints a table and writes sanity.png.
docs/metrics.md explains the table.

Every metric has blind spots, and they depend on the data, the features and the number of images (Räisä et al. 2025,
arXiv:2505.22450). So sets of real test images are scored like samples, whole and damaged, and the question is how often
a damaged set scores worse than a whole one. A set has at most half of the test split, so that sets differ.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter

from ddpm.base import progress
from ddpm.base.errors import UserError, exit_code
from ddpm.base.images import Images
from ddpm.base.paths import PROCESSED, REFERENCE
from ddpm.compute import devices, noise
from ddpm.data.processed import open_split
from ddpm.params import config, credit
from ddpm.pictures import grids
from ddpm.referee import metrics
from ddpm.report import render
from ddpm.report.blocks import Chapter, Note, Table
from ddpm.scoring import metric
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from ddpm.scoring.limits import possible_metrics
from ddpm.scoring.reference import RealFeatures, load_features, read_reference
from ddpm.scoring.scores import score

SETS = 8
SHOWN = 12  # images of each damage in the picture
FEWEST = 20  # test images
SEED = 2020
BLUR, NOISE = 1 / 32, 1 / 16  # of the images' sides, and of the range of grey levels
NOISE_BATCH = 256  # images for which noise is drawn at once
QUALITY = 25  # of JPEG: blocks can be seen
TOWARDS = 0.15  # of the way to the class's mean
FEW = 7  # images of a set for each of the images that they are copies of
STEPS, STEP = 300, 0.05  # of the fit of noise images
DIFFERENTIABLE = ("classifier", "random_conv")  # extractors whose networks take a gradient
SEES, BLIND = 0.9, 0.7  # of the pairs of a damaged and a whole set, those in which the damaged one scores worse
WHOLE, STATIC, FEWER, FITTED = "whole", "pure noise", "half as many", "fitted noise"
DAMAGE = {  # a score's ``sees`` -> the damage
    "dropped": "class left out",
    "doubled": "class doubled",
    "blur": "blur",
    "noise": "noise",
}

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
        sets = {WHOLE: order[:count], FEWER: order[: count // 2]}
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


class Sanity(NamedTuple):
    """images: in a set. whole: mean score of the whole sets. worse: score -> damage -> the share of pairs of a damaged
    and a whole set in which the damaged one scores worse: 1 if the score always notices it, 0.5 if never, less if
    damage passes for an improvement."""

    images: int
    whole: dict[str, float]
    worse: dict[str, dict[str, float]]


def measure(
    evaluate: Evaluate, count: int, processed: Path, reference: Path, device: torch.device, steps: int = STEPS
) -> Sanity:
    """Score whole and damaged sets of real test images by every metric of ``evaluate`` for which they are enough.

    count: samples that a model is scored on. steps: of the fit of noise images to the first extractor; 0 leaves them
    out. Raises UserError if there are too few test images for any metric.
    """
    (test, labels), (train, _) = open_split(processed, "test"), open_split(processed, "train")
    if len(test) < FEWEST:
        raise UserError(f"data/processed/test: {len(test)} images show nothing; at least {FEWEST} are needed: raise "
                        "data.test_fraction")  # fmt: skip
    count = min(count, len(test) // 2)
    pool = np.sort(np.random.default_rng(SEED).permutation(len(train))[: min(len(train), len(test))])
    spoiled, sets = spoil(np.array(test), labels), list(draw_sets(labels, count, len(pool)))
    sources = {WHOLE: np.concatenate([test, train[pool]]), **spoiled}
    sets += [Drawn(name, name, one.rows) for one in sets if one.damage == WHOLE for name in spoiled]
    values: dict[str, dict[str, list[float]]] = {}  # score -> damage -> of each set
    for name in read_reference(reference).resolve(evaluate).extractors:
        real = load_features(reference, name, device)
        options, fewer = (possible_metrics(evaluate, real.extractor, size) for size in (count, count // 2))
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
        with progress.bar(len(sets), f"sanity, {name}", "set") as bar:
            for one in sets:
                part = Features(*(tensor[one.rows] for tensor in features[one.source]))
                for key, value in score(part, real, fewer if one.damage == FEWER else options).items():
                    if metrics.is_judged(f"{name}.{key}"):
                        values.setdefault(f"{name}.{key}", {}).setdefault(one.damage, []).append(value)
                bar.update()
    real_images = np.array(train)
    for judge in metric.of_images(evaluate):
        with progress.bar(len(sets), f"sanity, {judge.name}", "set") as bar:
            for one in sets:
                c2st = evaluate.c2st.model_copy(update={"images": min(evaluate.c2st.images, len(one.rows))})
                fitted = evaluate.model_copy(update={"c2st": c2st})
                for key, value in judge.measure(sources[one.source][one.rows], real_images, fitted, device).items():
                    values.setdefault(f"{judge.name}.{key}", {}).setdefault(one.damage, []).append(value)
                bar.update()
    whole, shares = {}, {}
    for key, table in values.items():
        base, lower = np.array(table.pop(WHOLE)), metrics.direction(key) == "lower"
        whole[key] = float(base.mean())
        shares[key] = {damage: worse(np.array(row), base, lower) for damage, row in table.items()}
    return Sanity(count, whole, shares)


def worse(damaged: NDArray[np.float64], whole: NDArray[np.float64], lower: bool) -> float:
    """Of all pairs, the share in which the damaged set scores worse; equal scores count half. lower: is better."""
    gaps = np.subtract.outer(damaged, whole) * (1 if lower else -1)
    return float(np.mean((gaps > 0) + 0.5 * (gaps == 0)))


def verdict(share: float) -> str:
    """``sees``, ``partly`` or ``blind``; ``misled`` if damage is taken for an improvement."""
    if share >= SEES:
        return "sees"
    return "misled" if share <= 1 - SEES else "partly" if share >= BLIND else "blind"


def show(sanity: Sanity) -> list[Table | Note]:
    """A table with a row for each damage and a column for each score, and a note about each score that is blind to what
    its metric declares that it sees."""

    def cell(damage: str, share: float | None) -> str:
        if share is None:
            return "-"
        word = verdict(share)
        if damage == FEWER:  # no damage, which no score should see
            word = "moves" if word in ("sees", "misled") else "steady"
        return f"{word} ({share:.2f})"

    names = list(sanity.worse)
    rows = [("intact", *(f"{sanity.whole[name]:.4g}" for name in names))]
    for damage in dict.fromkeys(damage for row in sanity.worse.values() for damage in row):
        rows.append((damage, *(cell(damage, sanity.worse[name].get(damage)) for name in names)))
    caption = (
        f"What each score notices in {SETS} sets of {sanity.images:,} real test images. In parentheses: of the pairs "
        "of a damaged and an intact set, the share in which the damaged one scores worse. "
        f"sees: at least {SEES:g}; blind: below {BLIND:g}; misled: at most {1 - SEES:.1f}: damage passes for progress."
    )
    notes = []
    for name, row in sanity.worse.items():
        declared = [STATIC, *(DAMAGE[kind] for kind in metrics.SCORES[metrics.kind(name)].sees)]
        if missed := [damage for damage in declared if row.get(damage, 1.0) < BLIND]:
            notes.append(Note(f"warning: {name} is blind to damage that it should see: {', '.join(missed)}"))
    return [Table(["", *names], rows, caption), *notes]


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    options.add_argument("--fit", type=int, default=STEPS, help="steps to fit noise images to a score (0: none)")
    options.add_argument("--out", type=Path, default=Path("sanity.png"), help="picture to write, of the damages")
    options.add_argument("--json", action="store_true", help="print JSON, for a program")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Print what each score notices, and draw some test images: whole, then by each damage. Raises UserError."""
    given, checked = parser().parse_args(arguments), config.load()
    credit.refuse_other_params(checked, "preprocess", "reference")
    device = devices.resolve(checked.device)
    sanity = measure(checked.evaluate, checked.sample.count, PROCESSED, REFERENCE, device, given.fit)
    images, labels = open_split(PROCESSED, "test")
    spoiled = spoil(np.array(images), labels)
    grids.save_rows({name: some[:SHOWN] for name, some in {WHOLE: images, **spoiled}.items()}, given.out)
    print(json.dumps(sanity._asdict()) if given.json else render.text([Chapter("", show(sanity))]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
