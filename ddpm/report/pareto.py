"""Quality against cost: the points in metrics/frontier.csv, their Pareto front, and both as blocks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.pictures.plots import Panel
from ddpm.report.blocks import Block, Figure, Table
from ddpm.verdicts import metrics

# column of metrics/frontier.csv -> its type; between the last two are the scores, under their own names
TYPES = {"model": str, "sampler": str, "steps": int, "weight": float, "evaluations": int, "spacing": str, "images": int,
         "sets": int, "device": str, "seconds": float, "cpu_seconds": float, "pareto": bool}  # fmt: skip
FORMATS = {"weight": "g", "seconds": ".2f", "cpu_seconds": ".2f"}


def headline(points: DataFrame) -> str:
    """The Fréchet distance that ranks points: the first extractor's, by name."""
    return next(filter(metrics.is_headline, points.columns))


def marked(points: DataFrame) -> DataFrame:
    """The points with a column ``pareto``: whether no other point has as low a distance from as few evaluations."""
    costs = points[["evaluations", headline(points)]].itertuples(index=False, name=None)
    return points.assign(pareto=pareto(list(costs)))


def pareto(costs: Sequence[tuple[float, float]]) -> list[bool]:
    """For each pair, whether no other pair is as low in both values and lower in one."""
    return [not any(a <= x and b <= y and (a, b) != (x, y) for a, b in costs) for x, y in costs]


def write_csv(path: Path, points: DataFrame) -> None:
    """Write a row for each point."""
    scores = [name for name in points.columns if name not in TYPES]
    rows = points.assign(pareto=points["pareto"].astype(str).str.lower())
    files.write_rows(path, rows[[*list(TYPES)[:-1], *scores, "pareto"]].to_dict("records"))


def read_csv(path: Path) -> DataFrame:
    """The points that ``write_csv`` wrote. Raises UserError if the file is missing or not such a file."""
    try:
        points = pd.read_csv(path, dtype={"model": str, "sampler": str, "spacing": str})
        if missing := [name for name in TYPES if name not in points]:
            raise KeyError(missing[0])
        points = points.astype({name: TYPES.get(name, float) for name in [*TYPES, *points.columns]})
        if points.empty or points.isna().any(axis=None) or not any(map(metrics.is_headline, points.columns)):
            raise ValueError("no point, or one without a Fréchet distance")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; `ddpm frontier` makes it") from error
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: not a frontier ({error!r}); run `ddpm frontier` again") from error
    return points


def shown(points: DataFrame) -> list[Block]:
    """Pictures of the points, and the Pareto front as a table in order of cost."""
    first, score = points.iloc[0], headline(points)
    scores = metrics.judged(set(points.columns) - set(TYPES))
    guided = ["weight"] if (points["weight"] != 1).any() else []
    columns = ["sampler", "evaluations", "steps", *guided, "spacing", "seconds", "cpu_seconds", *scores]
    formats = FORMATS | dict.fromkeys(scores, ".4g")
    best = points[points["pareto"]].sort_values("evaluations")[columns].to_dict("records")
    caption = (
        f"Pareto front: than these, none of the {len(points)} points has a lower {score} from as few evaluations. "
        f"Means over {first.sets} sets of {first.images:,} images, drawn on {first.device}; seconds: by the wall "
        "clock, with whatever else the machine was doing; cpu_seconds: of this process alone, the sum over its threads."
    )
    rows = [[f"{row[name]:{formats.get(name, '')}}" for name in columns] for row in best]
    figures = [Figure(f"{panel.title}. Both axes are logarithmic.", [panel]) for panel in panels(points)]
    return [*figures, Table(columns, rows, caption, text_columns=(0, columns.index("spacing")))]


def panels(points: DataFrame) -> list[Panel]:
    """The headline score against evaluations and against time, a line per sampler and weight, with the front of each;
    with several weights also the best score at each, a line per sampler.

    Time is this process's CPU time on a CPU, and wall-clock time on a GPU, because the GPU does the work.
    """
    score = headline(points)
    on_cpu = points["device"].str.startswith("cpu").all()
    clock, unit = ("cpu_seconds", "CPU seconds") if on_cpu else ("seconds", "seconds")
    line, several = points["sampler"], points["weight"].nunique() > 1
    if several:
        line = line + points["weight"].map(", w = {:g}".format)
    drawn = []
    for cost, label in (
        ("evaluations", "network evaluations per image"),
        (clock, f"{unit} for {points['images'].iloc[0]:,} images"),
    ):
        pairs = points.assign(line=line).sort_values([cost, score])[["line", cost, score]]
        curves = {name: part[[cost, score]].to_numpy(float) for name, part in pairs.groupby("line")}
        every = pairs[[cost, score]].to_numpy(float)
        front = every[pareto(every.tolist())]
        drawn.append(Panel(f"{score} against {cost}", label, score, curves, front=front, log="xy", points=True))
    if several:
        lowest = points.groupby(["sampler", "weight"], as_index=False)[score].min()
        curves = {name: part[["weight", score]].to_numpy(float) for name, part in lowest.groupby("sampler")}
        title, label = f"{score} against the weight of guidance", "weight, each at its best number of evaluations"
        drawn.append(Panel(title, label, score, curves, log="y", points=True))
    return drawn
