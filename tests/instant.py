"""A search of the ladder ``tiny`` whose runs take no time."""

import json
import math
from pathlib import Path

import numpy as np

from ddpm.arms.pool import Done
from ddpm.arms.question import Question
from ddpm.ladder import attempt
from ddpm.params import config
from ddpm.runs import library, record, rows
from tests.command import run
from tests.scored import bare

TRIALS = Path("ladders/tiny/trials.jsonl")
BEST = {"train.optimizer.name": "muon", "diffusion.loss.name": "p2"}


def landscape(params: dict, seed: int) -> float:
    """A score that two keys improve only together, and that has noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05)
    train, loss = params["train"], params["diffusion"]["loss"]["name"]
    both = train["optimizer"]["name"] == "muon" and loss == "p2"
    distance = abs(math.log10(train["learning_rate"] / 0.01))
    alone = train["optimizer"]["name"] == "muon" and not both
    return float(np.exp(noise)) * (2 + distance - 1.5 * both + 0.3 * alone)


def made(params: dict, score: float, more: dict[str, float]) -> record.Record:
    """A score that is not finite is that of a training which diverged."""
    known = library.relevant(config.parse(params).flat())
    if not math.isfinite(score):
        return bare(params["seed"], params=known, scores={}, diverged="train: the loss is not finite")
    scores = {"classifier.fd": score, "yardsticks.gaussian.classifier.fd": 9.0, **more}
    return bare(params["seed"], params=known, scores=scores, comparable={"samples": 12})


class Instant:
    """Stands in for ddpm.arms.pool.Pool. score: of params and a seed; a text is the reason of a failure, and None that
    of a run that does not end. more: other scores, by params."""

    score = staticmethod(landscape)
    more = staticmethod(lambda params: {})
    patience = math.inf  # runs until it is stopped
    count = 0
    last_first = False  # of two runs, the one that began later ends first

    def __init__(self, code: Path, at_once: int, *_: object):
        self.waiting, self.at_once = [], at_once

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task):
        self.waiting.append(task)
        assert len(self.waiting) <= self.at_once

    def run(self, until=None):
        while self.waiting:
            task = self.waiting.pop(1 if self.last_first and len(self.waiting) > 1 else 0)
            type(self).count += 1
            if self.count > self.patience:
                raise SystemExit(143)
            score = type(self).score(task.params, task.params["seed"])
            if score is None:
                assert until is not None
                return
            if isinstance(score, str):
                yield Done(task, reason=score)
            else:
                yield Done(task, made(task.params, score, self.more(task.params)))


def run_at_once(runs: Question, seeds: int, slots: int | None, say: attempt.Say):
    """Stands in for ``attempt._run``."""
    for one in runs.planned[: 2 * seeds]:
        run = made(one.params, Instant.score(one.params, one.seed), Instant.more(one.params)).model_dump(mode="json")
        rows.append(runs.rows.path, run | {"name": runs.row_name(one.name)})
    runs.take_all()
    yield seeds


def find(*options: str) -> int:
    return run("ladder", "search", "tiny", *options)


def lines(path: Path = TRIALS) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
