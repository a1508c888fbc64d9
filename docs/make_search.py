"""Make a row of ladders/short/samplers.md: searches, simulated on what the recorded runs of digits_short scored.

``python -m docs.make_search tpe_mv/10/cold/0`` simulates 200 searches: Optuna's sampler (random, tpe, tpe_mv, gp), its
random trials, whether the ideas of ladders/short.yaml are tried first (cold, warm), and every how many trials one more
is random (0: none). A score is that of one of four forests of extremely randomized trees (Geurts et al. 2006), fitted
to the logarithms of all records of this base, with the noise that is recorded between the seeds of such recipes.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from optuna import create_study, distributions, logging, samplers, trial
from sklearn.ensemble import ExtraTreesRegressor

from ddpm.ladder import climb
from ddpm.ladder.axes import Range
from ddpm.ladder.space import Space
from ddpm.runs import rows
from ddpm.runs.rows import Rows

LADDER = Path("ladders/short.yaml")
ROWS = ("ladders/night", "ladders/short", "metrics/studies/night")
TABLES = ("ladders/short/trials.jsonl", "ladders/short/samplers.jsonl")
LIMIT = 60.0  # what a diverged training counts as
GOOD = 2.0  # a score below which the noise is another
FORESTS, TREES = 4, 200
LENGTHS, FINALISTS, AGAIN = (30, 80), (0, 3, 5), 2  # trials; those that run again before one is chosen, and how often


def encode(space: Space, params: Mapping[str, Any]) -> tuple[float, ...]:
    """A recipe as numbers: a name as one number a value, a length of an average by its logarithm."""
    numbers: list[float] = []
    for key, axis in space.axes.items():
        value = params[key]
        if key in ("train.learning_rate", "train.ema.constant.value"):
            numbers.append(math.log(value if isinstance(axis, Range) else 1 - value))
        elif isinstance(axis, Range) or all(isinstance(each, int | float | None) for each in axis):
            numbers.append(2.0 if value is None else float(value))
        else:
            numbers += [float(value == each) for each in axis]
    return tuple(numbers)


def scores(space: Space) -> dict[tuple[float, ...], list[float]]:
    """The logarithms of what each recorded recipe scored."""
    known = defaultdict(list)
    runs = (run for folder in ROWS for _, run in sorted(Rows(Path(folder) / rows.NAME).records.items()))
    for run in runs:
        known[encode(space, run.params)].append(math.log(run.scores["classifier.fd"]))
    for line in (line for table in TABLES for line in Path(table).read_text(encoding="utf-8").splitlines()):
        tried = json.loads(line)
        known[encode(space, {**space.usual, **tried["changes"]})].append(math.log(min(tried["score"] or LIMIT, LIMIT)))
    return known


class Forest:
    """A fitted forest that is quick for one recipe at a time: all trees in the same arrays."""

    def __init__(self, seed: int, recipes: Any, means: Any):
        forest = ExtraTreesRegressor(TREES, max_features=0.5, random_state=seed).fit(recipes, means)
        trees = [each.tree_ for each in forest.estimators_]
        ends = np.cumsum([0, *(tree.node_count for tree in trees)])
        self.roots, self.depth = ends[:-1], max(tree.max_depth for tree in trees)
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        here = np.arange(len(leaf))
        left = np.concatenate([tree.children_left + end for tree, end in zip(trees, ends, strict=False)])
        right = np.concatenate([tree.children_right + end for tree, end in zip(trees, ends, strict=False)])
        self.left, self.right = np.where(leaf, here, left), np.where(leaf, here, right)
        self.feature = np.where(leaf, 0, np.concatenate([tree.feature for tree in trees]))
        self.threshold = np.concatenate([tree.threshold for tree in trees])
        self.value = np.concatenate([tree.value[:, 0, 0] for tree in trees])

    def __call__(self, recipe: tuple[float, ...]) -> float:
        at, numbers = self.roots, np.asarray(recipe, dtype=np.float32)
        for _ in range(self.depth):
            at = np.where(numbers[self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
        return float(self.value[at].mean())


def sampler(name: str, startup: int, seed: int) -> samplers.BaseSampler:
    if name == "random":
        return samplers.RandomSampler(seed=seed)
    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup)
    together = name == "tpe_mv"
    return samplers.TPESampler(seed=seed, n_startup_trials=startup, multivariate=together, group=together)


def main(config: str, searches: int = 200, longest: int = max(LENGTHS)) -> dict[str, Any]:
    """By trials and recipes that run again: the median true score of the pick, its standard error, and by what share
    the pick is worse than the search claims."""
    logging.set_verbosity(logging.ERROR)
    warnings.simplefilter("ignore")
    name, startup, warm, mixed = config.split("/")
    space = Space(climb.load(LADDER), {})
    known = scores(space)
    recipes, means = np.array([*known]), np.array([np.mean(each) for each in known.values()])
    noise = {
        good: math.sqrt(
            sum(np.var(each, ddof=1) * (len(each) - 1) for each in many) / sum(len(each) - 1 for each in many)
        )
        for good in (False, True)
        if (many := [each for each in known.values() if len(each) > 1 and (np.mean(each) < math.log(GOOD)) == good])
    }
    print(f"{len(known)} recipes, {sum(map(len, known.values()))} runs; noise {noise}", file=sys.stderr)
    forests = [Forest(number, recipes, means) for number in range(FORESTS)]
    axes: dict[str, distributions.BaseDistribution] = {
        key: distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
        if isinstance(axis, Range)
        else distributions.CategoricalDistribution(axis)
        for key, axis in space.axes.items()
    }
    starts = [{}, *(space.contest.terms.model_dump(mode="json")["ideas"] if warm == "warm" else ())]
    picks = defaultdict(list)
    for number in range(searches):
        chance, forest = np.random.default_rng(number), forests[number % FORESTS]

        def run(truth: float, chance: np.random.Generator = chance) -> float:
            return truth + noise[truth < math.log(GOOD)] * float(chance.normal())

        own, other = sampler(name, int(startup), number), samplers.RandomSampler(seed=10**6 + number)
        study, seen = create_study(), list[tuple[float, float]]()
        for place in range(longest):
            if place < len(starts):
                params = {**space.usual, **starts[place]}
                truth = forest(encode(space, params))
                score = run(truth)
                if values := space.place(starts[place]):
                    study.add_trial(trial.create_trial(value=score, params=values, distributions=axes))
            else:
                study.sampler = other if int(mixed) and place % int(mixed) == 0 else own
                asked = study.ask(axes)
                truth = forest(encode(space, {**space.usual, **asked.params}))
                score = run(truth)
                study.tell(asked, score)
            seen.append((score, truth))
        for length in (length for length in LENGTHS if length <= longest):
            for finalists in FINALISTS:
                best = sorted(seen[: length - AGAIN * finalists])[: finalists or 1]
                if finalists:
                    best = [
                        ((score + sum(run(truth) for _ in range(AGAIN))) / (1 + AGAIN), truth) for score, truth in best
                    ]
                claim, truth = min(best)
                picks[f"{length}/{finalists}"].append((math.exp(truth), truth - claim))
    rows = {key: np.array(each) for key, each in picks.items()}
    return {"config": config, "searches": searches} | {
        key: [
            round(float(np.median(row[:, 0])), 3),
            round(float(1.25 * row[:, 0].std() / len(row) ** 0.5), 3),
            round(float(np.exp(row[:, 1].mean()) - 1), 3),
        ]
        for key, row in rows.items()
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))), flush=True)
