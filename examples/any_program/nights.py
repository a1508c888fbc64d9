"""Nights of edits of which most do nothing: what a ladder keeps, and what rules keep that trust one run or two.

`python nights.py` simulates 30 nights of 34 edits. Four edits are real improvements of train.py; the other thirty draw
other random numbers, which changes each score and no distribution. Scores are drawn from RUNS runs of each state of the
program, in this process; each end of an attempt is decided by the ladder's own function, `outcome.judge`. An idea has
the seeds of the champion, as a ladder gives it; what only draws other numbers has other seeds.
"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from train import train  # type: ignore[import-not-found]  # next to this file

from ddpm.ladder import outcome
from ddpm.ladder.climb import load
from ddpm.runs.record import Record
from ddpm.verdicts import evidence

NIGHTS, EDITS, RUNS = 30, 34, 200
CONTEST = load(Path("ladders/spirals.yaml"))
LR, WIDTH = CONTEST.values["lr"], CONTEST.values["width"]
REAL = [("lr", 1.15), ("width", 2), ("lr", 1.3), ("lr", 1.6)]  # what the ideas multiply
State = frozenset[int]  # the real ideas that are kept
Scores = Mapping[State, Sequence[float]]
Night = tuple[State, int, int]  # the real ideas and the number of others that are kept, and how many runs it took


def measure(state: State) -> list[float]:
    """Scores of the program with these ideas, over seeds."""
    factor = {"lr": 1.0, "width": 1.0}
    for idea in state:
        factor[REAL[idea][0]] *= REAL[idea][1]
    return [train(seed, LR * factor["lr"], round(WIDTH * factor["width"])) for seed in range(RUNS)]


def climb(edits: Sequence[int | None], scores: Scores, chance: random.Random) -> Night:
    """A night of a ladder."""
    state, rungs, false, runs = State(), 0, 0, 0
    for number, idea in enumerate(edits, 1):
        entry = state if idea is None else state | {idea}
        seeds = chance.choices(range(RUNS), k=CONTEST.terms.seeds.most)
        others = seeds if idea is not None else chance.choices(range(RUNS), k=len(seeds))
        before, after = (
            [Record.model_construct(seed=seed, scores={"val_loss": scores[side][at]}) for seed, at in enumerate(drawn)]
            for side, drawn in ((state, seeds), (entry, others))
        )
        needed = evidence.threshold(number, rungs, CONTEST.terms.error)
        end, _ = outcome.judge(CONTEST, "", evidence.PAIRS, needed, {}, before, after)
        runs += 2 * len(end.challenger)
        if end.outcome == "accepted":
            state, rungs, false = entry, rungs + 1, false + (idea is None)
    return state, false, runs


def greedy(runs_each: int, edits: Sequence[int | None], scores: Scores, chance: random.Random) -> Night:
    """A night of the rule that keeps what has the better mean of so many runs."""

    def score(side: State) -> float:
        return fmean(chance.choices(scores[side], k=runs_each))

    state, false, best = State(), 0, score(State())
    for idea in edits:
        entry = state if idea is None else state | {idea}
        if (mean := score(entry)) < best:
            state, best, false = entry, mean, false + (idea is None)
    return state, false, runs_each * (len(edits) + 1)


def main() -> None:
    subsets = (State(chosen) for size in range(5) for chosen in itertools.combinations(range(4), size))
    scores = {state: measure(state) for state in subsets}
    rules: dict[str, Callable[[Sequence[int | None], Scores, random.Random], Night]]
    rules = {"one run": partial(greedy, 1), "two runs": partial(greedy, 2), "ladder": climb}
    for name, rule in rules.items():
        nights = []
        for number in range(NIGHTS):
            chance = random.Random(number)  # noqa: S311 (nothing secret)
            edits: list[int | None] = [*range(len(REAL)), *[None] * (EDITS - len(REAL))]
            chance.shuffle(edits)
            nights.append(rule(edits, scores, chance))
        real, false, runs = (fmean(column) for column in zip(*((len(a), b, c) for a, b, c in nights), strict=True))
        nothing = sum(b for _, b, _ in nights)
        end = fmean(fmean(scores[a]) for a, *_ in nights)
        print(f"{name}: {real:.2f} of {len(REAL)} real ideas and {false:.2f} no-ops ({nothing} in all) kept a night, "
              f"{runs / EDITS:.1f} runs an edit, the program at {end:.4f}")  # fmt: skip


if __name__ == "__main__":
    main()
