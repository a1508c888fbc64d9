"""A ladder on the project of tests/study_project.py, whose stages take no time."""

import json
from pathlib import Path

import numpy as np
import yaml

from ddpm.ladder import climb, terms, trials
from ddpm.ladder import log as lines
from ddpm.ladder.log import Try
from ddpm.ladder.space import Space
from ddpm.ladder.terms import Contest
from ddpm.ladder.trials import Trial
from ddpm.runs import library, rows
from ddpm.verdicts.statistics import Array
from tests.command import run
from tests.scored import bare

FILE = Path("ladders/tiny.yaml")
LOG = Path("ladders/tiny/log.jsonl")
SCORE = {
    "question": "Which model is best?", "base": "digits_small_2026", "kind": "score", "primary": "classifier.fd",
    "cost": "images", "may_change": ["diffusion", "train", "sample.sampler"], "error": 0.5,
    "seeds": {"fewest": 6, "most": 16},
}  # fmt: skip
SEARCH = SCORE | {
    "question": "What is the best recipe?", "base": "digits_short", "seeds": {"fewest": 2, "most": 16},
    "may_change": ["diffusion", "train", "model.unet", "sample.sampler"],
    "space": {
        "train.learning_rate": {"low": 5e-4, "high": 5e-2, "log": True},
        "train.optimizer.name": ["adamw", "muon"], "diffusion.loss.name": ["simple", "min_snr", "p2"],
        "train.gradient_clip": [0.5, 1.0, None], "train.warmup_steps": {"low": 0, "high": 40},
    },
}  # fmt: skip
BETTER, WORSE = {"diffusion.schedule.name": "sigmoid"}, {"diffusion.schedule.name": "linear"}
# scores that look random, of seeds of any size
NOISE = """
    noise = (seed * 2654435761 % 2**32) / 2**32 - 0.5
    score = 2 + 0.3 * noise + (arm == "linear") * 0.8 - (arm == "sigmoid") * (0.5 + 0.1 * noise)
    extra = {"random_conv.kid_mean": 0.1 + (params["train"]["batch_size"] == 32) * 0.1 + 0.001 * noise}
"""


def idea(name: str, changes: object) -> str:
    path = Path(f"ideas/{name}.yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(changes))
    return str(path)


def ladder(*arguments: str) -> int:
    """The exit code of ``ddpm ladder``."""
    return run("ladder", *arguments)


def log(path: Path = LOG) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def state() -> climb.Climb:
    return climb.read(climb.load(FILE))


def contest(**changes: object) -> Contest:
    """The ladder with a space to search, and other terms."""
    FILE.write_text(yaml.safe_dump(SEARCH | changes))
    return climb.load(FILE)


def trial(of: Contest, seed: int, changes: dict[str, object], score: float = 2.0) -> Trial:
    identity = trials.find_identity(of)
    return Trial(search=1, of=identity, seed=seed, changes=changes, cost=10240.0, score=score, guards={}, seconds=1.0)


def space(**changes: object) -> Space:
    return Space(contest(**changes), {})


def attempted(name: str, gain: float | Array, harm: float = 0.0, most: int | None = None, **more: object) -> str:
    """An attempt in the log, with about that gain on each seed, its records and its end; return its key. harm: the
    loss in the guarded metric. most: seeds, even if they do not decide. more: what a line says that ``ddpm ladder try``
    would not."""
    contest = climb.load(FILE)
    with climb.hold(contest) as before:
        line = {"entry": name, "changes": {"train.steps": 10 + len(name)}, "on": before.on, "nonce": "0" * 16} | more
        begin = Try(**contest.identity, **line)
        lines.append(contest, begin.model_copy(update={"before": before.tip}))
    return finished(gain, harm, most).attempts[-1].key


def finished(gain: float | Array, harm: float = 0.0, most: int | None = None) -> climb.Climb:
    """The climb after the open attempt, which gets records and an end as in ``attempted``."""
    contest, held = climb.load(FILE), state()
    attempt = held.open
    champion = attempt.before
    both = {"champion": champion, "challenger": {**champion, **attempt.begin.changes}}
    sides = {side: contest.scale(changes, attempt.length) for side, changes in both.items()}
    gains = np.broadcast_to(gain, contest.terms.seeds.most) + 1e-6 * np.arange(contest.terms.seeds.most)
    runs = held.runs(attempt)
    for seed, each in enumerate(gains.tolist(), attempt.first_seed):
        write_record(contest, attempt.key, "champion", sides["champion"], seed, 1.0, 0.1)
        write_record(contest, attempt.key, "challenger", sides["challenger"], seed, 1.0 - each, 0.1 + harm)
        runs.take_all()
        end, decides = held.judge(attempt)
        if decides or len(end.challenger) == most:
            break
    return climb.append(held, end)


def write_record(contest: terms.Contest, key: str, arm: str, changes: dict, seed: int, fd: float, kid: float) -> None:
    scores = {"classifier.fd": fd, "random_conv.kid_mean": kid, "yardsticks.gaussian.classifier.fd": 0.9}
    params = library.relevant(contest.params(changes).flat()) | {"seed": seed}
    record = bare(seed, params=params, scores=scores, comparable={"samples": 12})
    rows.append(contest.rows.path, record.model_dump(mode="json") | {"name": f"tiny-{key}-{arm}-{seed}"})
