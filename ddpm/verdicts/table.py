"""A table of scores from anywhere, judged: a row for each run, with its arm, its seed and a column for each metric.

Such tables are written by hand, by a script or by a tracker. MLflow's ``search_runs`` and ``mlflow experiments csv``
put ``metrics.``, ``params.`` or ``tags.`` before a column's name, which may be left out here; exports of its pages and
of W&B's do not. Nothing else is known of the runs, so no guard refuses a verdict.

The csv module reads them: pandas would turn an arm's name such as NA or 010 into a number, and judging needs none of
its tables.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mode
from typing import Any, NamedTuple

from ddpm.base.errors import UserError, plural
from ddpm.base.variant import closest, quote
from ddpm.verdicts import unpaired, verdict
from ddpm.verdicts.arms import Arm, Pair, name_alone, name_seeds, partners, refuse_twins
from ddpm.verdicts.confirmation import FRESH
from ddpm.verdicts.result import Judgement, describe_rule
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.unpaired import MIN_SEEDS
from ddpm.verdicts.verdict import Direction, Known, Rules, Verdict

CONFIDENCE = 0.95
LONGEST = 200  # characters of an arm's name
MOST_BYTES = 50_000_000
MOST = 10_000  # rows, and columns; a table with more has a row for each step, not for each run
LARGEST = 1e100  # score: the squares of larger ones overflow
PREFIXES = ("metrics.", "params.", "tags.")
FINITE = "a finite number; --better COLUMN=lower names the columns that are metrics"


class Row(NamedTuple):
    """A run, of which the table states the seed and the scores; the seed is None if it pairs nothing."""

    name: str
    seed: int | None
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Columns(Known):
    """Facts about the metrics of a table, by column, as its user states them."""

    directions: Mapping[str, Direction]
    margins: Mapping[str, float]
    share: float = 0.0  # of the baseline's mean, which is the margin where there is no other

    def direction(self, metric: str, /) -> Direction:
        return self.directions[metric]

    def margin(self, metric: str, baseline: float, /) -> float:
        return self.margins.get(metric, self.share * abs(baseline))


def judge(
    path: Path,
    better: Sequence[str],
    margin: Sequence[str] = (),
    baseline: str | None = None,
    primary: str | None = None,
    arm: str = "arm",
    seed: str = "seed",
    gate: bool = False,
) -> Judgement:
    """Every arm of the table against the baseline, which is the first row's arm by default.

    better: COLUMN=lower or COLUMN=higher for each metric, or one direction for all columns besides ``arm`` and
    ``seed``; of MLflow's, for all metrics. margin: the smallest gap that matters in each metric's unit, likewise; 0 by
    default. primary: the first metric by default. Raises UserError for a mistake in the options or the table.

    Arms that share two seeds or more are paired by them. Others are not, which a note says. gate: judge the first run
    of each arm instead, as ``ddpm gate`` judges one.
    """
    columns, rows = _read(path)
    find = partial(_find, path, columns)
    of_arm, of_seed = find("--arm", arm), find("--seed", seed)
    others = [name for name in columns if name not in (of_arm, of_seed)]
    scores = [name for name in others if name.startswith(PREFIXES[0])] or others
    directions = _by_column(partial(_find, path, others), "--better", better, scores)
    if not directions or not {*directions.values()} <= {"lower", "higher"}:
        raise UserError(f"--better {' '.join(better)}: allowed: lower or higher, or COLUMN=lower,COLUMN=higher")
    margins = _by_column(partial(_find, path, directions), "--margin", margin, directions)
    margins = {name: _number(text, f"--margin: {name}", "at least 0", least=0) for name, text in margins.items()}
    first = _find(path, directions, "--primary", primary or next(iter(directions)))
    names = [*dict.fromkeys([first, *directions])]
    arms = _arms(path, rows, of_arm, of_seed, names, 1 if gate else 2)
    before = arms.pop(_find(path, arms, "--baseline", baseline or next(iter(arms))))
    if gate and len(before.runs) < MIN_SEEDS:
        raise UserError(
            f"{path}: --gate: the baseline {before.label} has {plural(len(before.runs), 'run')}; allowed: at least "
            f"{MIN_SEEDS}, each with a seed of its own"
        )
    rules = partial(Rules, Columns(directions, margins), CONFIDENCE, names, len(arms))
    verdicts, notes = (_gate if gate else _compare)(before, arms.values(), rules)
    compare = {"confidence": CONFIDENCE, "threshold": 0.0, "floors": {}}
    question = f"Is a run worse than {before.label}'s?" if gate else f"Which {arm} is better?"
    return Judgement(question, first, (before, *arms.values()), tuple(verdicts), compare, tuple(notes))


def _compare(before: Arm, arms: Iterable[Arm], rules: Callable[[Design], Rules]) -> tuple[list[Verdict], list[str]]:
    """The verdicts on all runs of each arm, and notes. rules: by the looks of a pair."""
    verdicts, notes = [], list[str]()
    for after in arms:
        pair = partners(before, after)
        seeds = len(pair.after)
        if seeds > 1:
            notes += name_alone(before, after)
            verdicts += verdict.judge(pair, rules(Design((seeds,))), [seeds])
        else:
            notes.append(f"{after.label} and {before.label} share fewer than two seeds: Welch's t test, without pairs")
            sides = ([run._replace(seed=None) for run in one.runs.values()] for one in (before, after))
            pair = Pair(before.label, after.label, *map(tuple, sides))
            verdicts += unpaired.judge_unpaired(pair, rules(Design((seeds,))))
    return verdicts, [*notes, describe_rule(CONFIDENCE)]


def _gate(before: Arm, arms: Iterable[Arm], rules: Callable[[Design], Rules]) -> tuple[list[Verdict], list[str]]:
    """The verdicts on a run of each arm, and notes."""
    once = rules(Design((1,)))
    verdicts = [one for after in arms for one in _judge_first(before, after, once)]
    return verdicts, [*unpaired.describe_bounds(verdicts, once)]


def _judge_first(before: Arm, after: Arm, rules: Rules) -> list[Verdict]:
    """The verdicts on the arm's run of the lowest seed or, if it raises an alarm, on those of the next three. If they
    are not there yet, the alarm's reason names the seeds."""
    stored, (first, *others) = tuple(before.runs.values()), (after.runs[seed] for seed in sorted(after.runs))
    pair, fresh = (Pair(before.label, after.label, stored, tuple(runs)) for runs in ([first], others[:FRESH]))
    alarm, *rest = unpaired.judge_run(pair, rules)
    if alarm.outcome != "not yet":
        return [alarm, *rest]
    if len(fresh.after) == FRESH:
        return unpaired.judge_run(pair, rules, fresh)
    seeds = name_seeds(unpaired.next_seeds((*pair.runs, *others), FRESH - len(others)))
    what = f"an alarm in {alarm.metric}: run {after.label} with {seeds}, add the rows, and judge again"
    return [replace(alarm, reason=what, overridden=True), *rest]


def _read(path: Path) -> tuple[Sequence[str], list[dict[Any, Any]]]:
    """The columns, and the cells of each row. Raises UserError."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        lines = io.StringIO("" if len(content) > MOST_BYTES else content.decode("utf-8-sig"), newline="")
        delimiter = max(",;\t", key=lines.readline().count)
        lines.seek(0)
        reader = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        columns, rows = reader.fieldnames or (), [*islice(reader, MOST)]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    if len(content) > MOST_BYTES or len(columns) > MOST or len(rows) == MOST:
        raise UserError(f"{path}: too large; allowed: a row for each run, not for each step, and {MOST:,} of them")
    if not columns:
        raise UserError(f"{path}: is empty; allowed: a line with the columns' names, then a row for each run")
    if len({*columns}) < len(columns):
        raise UserError(f"{path}: two columns are called {quote(mode(columns))}: rename one")
    return columns, rows


def _find(path: Path, names: Collection[str], option: str, given: str) -> str:
    """The name, with or without one of PREFIXES. Raises UserError unless there is one."""
    found = [name for name in names if name == given]
    found = found or [name for name in names if name in {prefix + given for prefix in PREFIXES}]
    if len(found) != 1:
        raise UserError(
            f"{path}: {option}: {quote(given)}{closest(given, names)}; allowed: {', '.join(found or names)}"
        )
    return found[0]


def _by_column(find: Callable[..., str], option: str, given: Sequence[str], every: Collection[str]) -> dict[str, Any]:
    """The values of an option by column: COLUMN=VALUE, or VALUE for each other of ``every``. Raises UserError if one is
    given twice."""
    parts = [text.rpartition("=") for text in filter(None, ",".join(given).split(","))]
    pairs = [(find(option, column) if sign else "", value) for column, sign, value in parts]
    if len(dict(pairs)) < len(pairs):
        raise UserError(f"{option} {' '.join(given)}: sets a column twice, or all of them; allowed: once")
    values, own = dict[str, Any](), {column: value for column, value in pairs if column}
    for column, value in pairs:
        values |= {column: value} if column else dict.fromkeys(every, value) | own
    return values


def _arms(
    path: Path, rows: Sequence[Mapping[Any, Any]], of_arm: str, of_seed: str, names: Sequence[str], fewest: int
) -> dict[str, Arm]:
    """The runs by arm, ``fewest`` or more of each. Raises UserError for a cell that cannot be used, and for runs that
    cannot be judged."""
    arms: dict[str, Arm] = {}
    for number, cells in enumerate(rows, 2):
        where = f"{path}: row {number}"
        if None in cells or None in cells.values():
            raise UserError(f"{where}: too few cells, or too many; allowed: one for each column")
        seed = _number(cells[of_seed].removesuffix(".0"), f"{where}: {of_seed}", "a whole number", int)  # 3.0 in pandas
        if not 0 < len(label := cells[of_arm].strip()) <= LONGEST or not label.isprintable():
            raise UserError(
                f"{where}: {of_arm}: {quote(label)}; allowed: a name of 1 to {LONGEST} printable characters"
            )
        runs = arms.setdefault(label, Arm(label, {of_arm: label}, {})).runs
        if seed in runs:
            raise UserError(f"{where}: {label} has seed {seed} twice; allowed: one row for each arm and seed")
        scores = {name: _number(cells[name], f"{where}: {name}", FINITE) for name in names}
        runs[seed] = Row(f"{label} {seed}", seed, scores)
    if len(arms) < 2:
        raise UserError(f"{path}: {of_arm}: {', '.join(arms) or 'no rows'}; allowed: two arms or more")
    for label, arm in arms.items():
        if len({tuple(run.scores.values()) for run in arm.runs.values()}) < min(2, max(fewest, len(arm.runs))):
            raise UserError(
                f"{path}: {label}: only one row, or only equal ones; allowed: two seeds or more that differ"
            )
    refuse_twins(arms.values(), {"scores": lambda run: tuple(run.scores.values()) if len(run.scores) > 2 else ()})
    return arms


def _number(text: str, where: str, allowed: str, kind: Callable[[str], Any] = float, least: float = -LARGEST) -> Any:
    """Raises UserError, which begins with ``where``, unless it is a finite number of at least ``least``."""
    with suppress(ValueError):
        if least <= (value := kind(text)) <= LARGEST:
            return value
    raise UserError(f"{where}: {quote(text)}; allowed: {allowed}")
