"""Make the table of docs/ladder.md about lengths: ``python -m docs.make_lengths RECIPES.jsonl 25``.

Random recipes of ladders/short_gp.yaml, with a small transformer on 8x8 digits, are trained at each length in this
process, and what they score is kept in the file. Searches are then simulated by drawing from it. A score is the
geometric mean of the Fréchet distances to the train images by ``components`` and ``random_conv``, of 240 images.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import spearmanr

from ddpm.arms.run import apply_overrides
from ddpm.base.errors import UserError
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split
from ddpm.ladder import terms
from ddpm.ladder.axes import Lengths, Range
from ddpm.ladder.search import FINALISTS, RUNS
from ddpm.ladder.space import Space
from ddpm.ladder.trials import promote
from ddpm.model import build
from ddpm.params.config import Config
from ddpm.sampling.classes import Classes
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.scoring import extractor, features, frechet
from ddpm.training.trainer import Trainer

SMALL = {
    "data.image_size": 8, "train.precision": "float32", "model.name": "dit",
    "model.dit.patch_size": 4, "model.dit.width": 64, "model.dit.depth": 1, "model.dit.heads": 2,
}  # fmt: skip
LENGTHS = (0.0625, 0.25, 1.0)
PLANS = ((), (0.25,), (0.0625,), (0.0625, 0.25))
SEARCHES, COUNT, CPU = 500, 240, torch.device("cpu")


class Measure:
    """Trains and scores on the images of a config, which all recipes share."""

    def __init__(self, config: Config, folder: Path):
        config.data.dataset.download(None, folder / "raw")
        preprocess(config.data, folder / "raw", folder / "processed")
        self.images, self.labels = open_split(folder / "processed", "train")
        self.eyes = []
        for eye in map(extractor.get, ("components", "random_conv")):
            eye.write_weights(folder / "processed", folder / "weights", CPU)
            network = eye.load(folder / "weights")
            real = frechet.statistics(features.extract(network, self.images, COUNT, CPU).features)
            self.eyes.append((network, frechet.Distance(real["mu"], real["sigma"], CPU)))

    def __call__(self, config: Config) -> float:
        """Infinite if it diverges."""
        trainer, sample = Trainer(config, self.images, CPU, labels=self.labels), config.sample
        for step in range(1, trainer.total + 1):
            trainer.step(step)
        network = build.network(config)
        network.load_state_dict(trainer.student.averages.shipped)
        denoiser = Denoiser(network.eval(), config.diffusion, CPU, torch.float32, sample.clip_denoised)
        classes = Classes((), [1] * config.model.classes)
        draws = Generator(denoiser, sample.sampler, sample.steps, sample.spacing, config.data.shape, classes)
        try:
            images = draws.images(range(COUNT), config.seed).numpy()
        except UserError:
            return math.inf
        seen = (distance(features.extract(eye, images, COUNT, CPU).features) for eye, distance in self.eyes)
        return math.exp(math.fsum(math.log(distance) for distance in seen) / len(self.eyes))


def draw(space: Space, number: int) -> Mapping[str, object]:
    """The changes of a random recipe."""
    dice, values = np.random.default_rng(number), dict[str, object]()
    for key, axis in space.axes.items():
        if isinstance(axis, Range):
            values[key] = float(f"{math.exp(dice.uniform(math.log(axis.low), math.log(axis.high))):.3g}")
        else:
            values[key] = axis[dice.integers(len(axis))]
    return space.make_changes(values)


def measure(path: Path, count: int) -> list[list[float]]:
    """By recipe its scores at LENGTHS, and again at the last. Those that the file lacks are added to it."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    contest = terms.load(Path("ladders/short_gp.yaml"))
    steps = Lengths(keys=("train.steps", "train.warmup_steps"), shares=LENGTHS[:-1])
    axes = {key: axis for key, axis in contest.terms.space.items() if not key.startswith("model.")}
    whole = contest.terms.model_copy(update={"lengths": steps, "space": axes})
    contest = replace(contest, values=apply_overrides(contest.values, SMALL, "SMALL"), terms=whole)
    with TemporaryDirectory() as folder:
        score, space = Measure(contest.config, Path(folder)), Space(contest, {})
        for number in range(len(lines), count):
            recipe, scores = draw(space, number), list[float]()
            for place, length in enumerate((*LENGTHS, 1.0)):
                changes = {**contest.scale(recipe, length), "seed": 10 * number + place}
                scores.append(score(contest.params(changes)))
            lines.append(json.dumps(scores))
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{lines[-1]}\n")
    return [json.loads(line) for line in lines[:count]]


def search(scores: np.ndarray, shares: Sequence[float], budget: int, dice: np.random.Generator) -> float:
    """What the find of a search with a champion that is no good scores, by the rule of ``trials.promote``; scores: (N,
    lengths + 1). The find is the best of one run, and scores what it did again."""
    lengths, spent, order = (*shares, 1.0), 1.0, iter(dice.permutation(len(scores)).tolist())
    places = [LENGTHS.index(length) for length in lengths]
    tried = [dict[int, float]() for _ in lengths]
    while spent < budget - min(FINALISTS * (RUNS - 1), budget // 4):
        ranked = [sorted(runs, key=runs.__getitem__) for runs in tried[:-1]]
        longer = promote(ranked, [len(runs) for runs in ranked], lambda one, place: one in tried[place])
        recipe, place = longer or (next(order, -1), 0)
        if recipe < 0:  # all were tried
            break
        tried[place][recipe] = scores[recipe, places[place]]
        spent += lengths[place]
    return float(scores[min(tried[-1], key=tried[-1].__getitem__), -1])


def main() -> None:
    scores = np.array(measure(Path(sys.argv[1]), int(sys.argv[2])))
    whole = np.sqrt(scores[:, -2] * scores[:, -1])
    good = whole <= np.median(whole)
    for place, length in enumerate(LENGTHS[:-1]):
        ranks = (spearmanr(scores[chosen, place], whole[chosen])[0] for chosen in (slice(None), good))
        print(f"rank correlation of {length:g} with 1, of all and of the better half:", *(f"{r:.2f}" for r in ranks))
    for shares in PLANS:
        found = (
            np.mean([search(scores, shares, budget, np.random.default_rng(n)) for n in range(SEARCHES)])
            for budget in (8, 12)
        )
        print(
            f"| {', '.join(f'{share:g}' for share in shares) or 'full'} | {' | '.join(f'{one:.3g}' for one in found)} |"
        )


if __name__ == "__main__":
    main()
