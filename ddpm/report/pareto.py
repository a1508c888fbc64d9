"""Quality against cost: the runs that draw from one training in different ways, and the Pareto front of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ddpm.base.errors import UserError
from ddpm.params.config import Config
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure, Table, number, plain
from ddpm.runs import alike
from ddpm.runs.record import Record
from ddpm.verdicts import metrics

# params in which the points differ
KEYS = ("sample.sampler.name", "sample.steps", "sample.spacing", "sample.guidance.weight")


def pareto(costs: Sequence[tuple[float, float]]) -> list[bool]:
    """For each pair, whether no other pair is as low in both values and lower in one."""
    return [not any(a <= x and b <= y and (a, b) != (x, y) for a, b in costs) for x, y in costs]


def shown(working: Config, run: Record, records: Iterable[Record]) -> list[Block]:
    """A picture of this training's runs among the records, by the network's evaluations per image, and their Pareto
    front as a table.

    Raises UserError if no run samples this training in another way.
    """
    score = next(filter(metrics.is_headline, metrics.judged(run.scores)), "")
    runs = alike.matching(records, working, KEYS).records
    points = sorted(
        (one.costs.evaluations, one.scores[score], [plain(one.params[key]) for key in KEYS])
        for one in runs
        if one.seed == run.seed and one.costs.evaluations and score in one.scores
    )
    if len(points) < 2:
        raise UserError("this model is scored with one way of sampling; `dvc exp run -S sample.steps=10` adds another")
    front = pareto([point[:2] for point in points])
    curves: dict[str, list[tuple[float, float]]] = {}
    for evaluations, value, (sampler, *_, weight) in points:
        curves.setdefault(sampler if weight == "1" else f"{sampler}, w = {weight}", []).append((evaluations, value))
    panel = Panel(
        f"{score} against evaluations",
        "network evaluations per image",
        score,
        {name: np.array(curve) for name, curve in curves.items()},
        front=np.array([point[:2] for point in points])[front],
        log="xy",
        points=True,
    )
    rows = [
        [str(cost), number(value), *values] for (cost, value, values), best in zip(points, front, strict=True) if best
    ]
    caption = f"Pareto front: no other of the {len(points)} runs has as low a {score} from as few evaluations."
    heads = ["evaluations", score, "sampler", "steps", "spacing", "guidance"]
    return [Figure(f"{panel.title}. Both axes are logarithmic.", [panel]), Table(heads, rows, caption, (2, 4))]
