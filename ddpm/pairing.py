"""Which runs may be compared, and which with which: variants of some params keys, paired by training seed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm import files, metrics, results, variants
from ddpm.config import Config
from ddpm.errors import UserError
from ddpm.results import Result

# what a run has cost -> what it is called; a variant is not better for having had more
BUDGETS = {"images_seen": "images seen", "parameters": "parameters", "evaluations": "evaluations"}
NAMED_RUNS = 3


class Side(NamedTuple):
    """A variant's runs by training seed. values: its params under the keys that vary."""

    label: str
    values: dict[str, Any]
    runs: dict[int, Result]

    def spent(self, budget: str) -> set[int]:
        """Every amount that a run of it tells; one of BUDGETS."""
        return {getattr(run, budget) for run in self.runs.values()} - {None}


class Pair(NamedTuple):
    """Two variants' runs: those at the same place of ``before`` and ``after`` share their seed."""

    baseline: str
    variant: str
    seeds: tuple[int, ...]
    before: tuple[Result, ...]
    after: tuple[Result, ...]

    def scores(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array([run.scores[metric] for run in self.before]), np.array(
            [run.scores[metric] for run in self.after]
        )


def check_keys(by: Sequence[str], found: Iterable[Result], working: Config) -> None:
    """Raises UserError unless each is a params key, or a section, by which runs can differ."""
    known = set(results.plain_params(working)).union(*(run.params for run in found))
    if not by:
        raise UserError("--by: names no params key; give one, such as diffusion.schedule.name")
    for key in by:
        if key == results.SEED:
            raise UserError("--by seed: runs are paired by seed; name what differs between the variants")
        if not any(results.under(name, key) for name in known):
            raise UserError(
                f"--by: no run has the key {key!r}{variants.closest(key, known)}; allowed: a key of params.yaml, such "
                "as diffusion.schedule.name, or a section of it"
            )


def sides(runs: Iterable[Result], by: Sequence[str], working: Config) -> list[Side]:
    """The runs by variant: the working params' variant first, the others by label."""
    groups: dict[str, list[Result]] = {}
    for run in runs:
        groups.setdefault(files.digest(varied(run.params, by)), []).append(run)
    values = [varied(group[0].params, by) for group in groups.values()]
    found = [
        Side(label, part, {run.seed: run for run in group})
        for label, part, group in zip(_labels(values, by), values, groups.values(), strict=True)
    ]
    here = varied(results.plain_params(working), by)
    # "at least": the runs' networks may have been filled up with their defaults
    return sorted(found, key=lambda side: (not here.items() <= side.values.items(), side.label))


def varied(params: Mapping[str, Any], by: Sequence[str]) -> dict[str, Any]:
    """The params that make a variant: those in ``by``, and what belongs to them."""
    return {key: value for key, value in params.items() if results.varied(key, by)}


def check_fingerprints(runs: Iterable[Result], by: Sequence[str]) -> str:
    """The fingerprint that all share: less its sampling where ``by`` varies that. Raises UserError when they differ."""
    scored_alike: dict[str, list[str]] = {}
    for run in runs:
        sampling = any(results.under(key, "sample") for key in by)
        fingerprint = run.fingerprint_without_sampling if sampling else run.fingerprint
        if fingerprint is None:
            raise UserError(
                f"{run.name} ({run.source}): its fingerprint has no hash_without_sampling, which comparing "
                f"{', '.join(by)} needs: evaluate it again"
            )
        scored_alike.setdefault(fingerprint, []).append(run.name)
    if len(scored_alike) > 1:
        shown = "; ".join(f"{fingerprint[:7]}: {_some(names)}" for fingerprint, names in scored_alike.items())
        raise UserError(
            f"fingerprints differ, so these scores can't be compared ({shown}): metrics/fingerprint.json says what "
            "each rests on; score them alike, or remove the odd ones"
        )
    return next(iter(scored_alike))


def check_budgets(found: Sequence[Side], allowed: bool) -> list[str]:
    """A note for each budget that differs. Raises UserError for it unless that is allowed."""
    notes = []
    for budget, title in BUDGETS.items():
        spent = {side.label: sorted(side.spent(budget)) for side in found}
        if len(set().union(*spent.values())) > 1:
            shown = (
                f"{label} {' or '.join(f'{n:,}' for n in amounts) or 'unknown'}" for label, amounts in spent.items()
            )
            notes.append(f"budgets differ: {title}: {', '.join(shown)}")
    if notes and not allowed:
        raise UserError(f"{'; '.join(notes)}; spend the same, or pass --allow-budget-mismatch to see it as a column")
    return notes


def choose_metrics(runs: Sequence[Result], chosen: Sequence[str]) -> list[str]:
    """The chosen metrics, or those that all runs have. Raises UserError for one that is missing or no number."""
    anywhere = metrics.in_order({name for run in runs for name in run.scores if metrics.is_judged(name)})
    for name in chosen:
        if name not in anywhere:
            raise UserError(
                f"--metrics: no run has {name!r}{variants.closest(name, anywhere)}; allowed: {', '.join(anywhere)}"
            )
        if lacking := [run.name for run in runs if name not in run.scores]:
            raise UserError(f"--metrics: {name} is missing in {_some(lacking)}; evaluate again, or leave it out")
    everywhere = [name for name in anywhere if all(name in run.scores for run in runs)]
    names = metrics.in_order(set(chosen)) or metrics.judged(everywhere)
    if not names:
        raise UserError(f"no metric is in all runs; in some: {', '.join(anywhere) or 'none'}")
    for run in runs:
        for name in dict.fromkeys([*names, *filter(None, map(metrics.kid_of, names))]):
            if not math.isfinite(run.scores.get(name, 0)):
                raise UserError(
                    f"{run.name} ({run.source}), seed {run.seed}: {name} is {run.scores[name]}; look at its samples, "
                    "and run it again or remove it"
                )
    return names


def pairs(wanted: Iterable[tuple[Side, Side]], by: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Runs of the same seeds, and notes of what has no partner. Raises UserError when no pair has two seeds."""
    found, notes, too_few = [], [], []
    for before, after in wanted:
        seeds = tuple(sorted(before.runs.keys() & after.runs.keys()))
        what = f"{after.label} against {before.label}"
        if len(seeds) < 2:
            own = ", ".join(f"{side.label} has {_seeds(side.runs)}" for side in (before, after))
            too_few.append(f"{what}: {len(seeds) or 'no'} seed in common ({own})")
            continue
        for side, other in ((before, after), (after, before)):
            if alone := side.runs.keys() - set(seeds):
                notes.append(f"{what}: {side.label}'s {_seeds(alone)} left out, which {other.label} lacks")
        found.append(
            Pair(
                before.label,
                after.label,
                seeds,
                tuple(before.runs[seed] for seed in seeds),
                tuple(after.runs[seed] for seed in seeds),
            )
        )
    if not found:
        raise UserError(
            f"{'; '.join(too_few)}: at least two are needed, and six for a verdict of better or worse: "
            f"`dvc exp run -S {by[0]}=VALUE -S seed=N` runs one"
        )
    return found, [*notes, *(f"left out: {line}; at least two are needed" for line in too_few)]


def _labels(values: Sequence[Mapping[str, Any]], by: Sequence[str]) -> list[str]:
    """The values of the keys in ``by``; to namesakes is added what they have in common and set otherwise."""
    heads = [", ".join(str(part[key]) for key in by if key in part) for part in values]
    tails: list[list[str]] = [[] for _ in values]
    while added := _apart(heads, tails, values):
        for place, keys in added.items():
            tails[place] += [f"{_tail(key, by)}={values[place][key]}" for key in keys]
    return [
        f"{head} ({', '.join(tail)})" if head and tail else head or ", ".join(tail)
        for head, tail in zip(heads, tails, strict=True)
    ]


def _apart(
    heads: Sequence[str], tails: Sequence[Sequence[str]], values: Sequence[Mapping[str, Any]]
) -> dict[int, list[str]]:
    """Place -> the keys that tell it from those of the same label so far; empty once none do."""
    found = {}
    for place, part in enumerate(values):
        like = [n for n in range(len(values)) if (heads[n], tails[n]) == (heads[place], tails[place])]
        common = [key for key in part if all(key in values[n] for n in like)]
        if keys := [key for key in common if any(values[n][key] != part[key] for n in like)]:
            found[place] = keys
    return found


def _tail(key: str, by: Sequence[str]) -> str:
    section = next(name.removesuffix(".name") for name in by if results.varied(key, (name,)))
    return key.removeprefix(f"{section}.")


def _seeds(seeds: Iterable[int]) -> str:
    ordered = sorted(seeds)
    return f"seed{'s' * (len(ordered) > 1)} {' '.join(map(str, ordered))}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_RUNS} more" if len(names) > NAMED_RUNS else ""
    return ", ".join(names[:NAMED_RUNS]) + more
