"""Which runs may be compared with which: variants of some params keys, paired by training seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from ddpm.base import files
from ddpm.base import variant as variants
from ddpm.base.errors import UserError
from ddpm.base.sections import Shape
from ddpm.compare import metrics
from ddpm.compare import runs as scored
from ddpm.compare.runs import Run, some
from ddpm.params.config import Config

# what a run cost -> its name; a variant is not better because it had more
BUDGETS = {"images_seen": "images seen", "parameters": "parameters", "evaluations": "evaluations"}
# fields of Run in which partners are alike, unless a plan or the user lets them differ
Alike = Literal["images_seen", "parameters", "evaluations", "precision", "processor", "code"]
ALIKE: tuple[Alike, ...] = get_args(Alike)


class Arm(NamedTuple):
    """A variant's runs by training seed. values: its params under the keys that vary."""

    label: str
    values: dict[str, Any]
    runs: dict[int, Run]

    def spent(self, budget: str) -> list[Any]:
        """Every known value of one of ALIKE, in ascending order; not of code."""
        return sorted({getattr(run, budget) for run in self.runs.values()} - {None})


class Pair(NamedTuple):
    """Two variants' runs: those at the same place of ``before`` and ``after`` are partners."""

    baseline: str
    variant: str
    before: tuple[Run, ...]
    after: tuple[Run, ...]

    def scores(self, metric: str) -> tuple[NDArray[np.float64], ...]:
        """The scores of the baseline's runs, and of the variant's."""
        return tuple(np.array([run.scores[metric] for run in runs]) for runs in (self.before, self.after))


def check_keys(by: Sequence[str], found: Iterable[Run], working: Config) -> None:
    """Raises UserError unless each is a params key, or a section, in which runs can differ."""
    known = set(working.flat()).union(*(run.params for run in found))
    for key in by:
        if key == scored.SEED:
            raise UserError("--by seed: runs are paired by seed; name what differs between the variants")
        if not any(scored.under(name, key) for name in known):
            raise UserError(
                f"--by: no run has the key {key!r}{variants.closest(key, known)}; allowed: a key of params.yaml, such "
                "as diffusion.schedule.name, or a section of it"
            )


def arms(runs: Iterable[Run], by: Sequence[str], working: Config) -> list[Arm]:
    """The runs by variant: the working params' variant first, the others by label."""
    groups = scored.grouped(runs, lambda run: files.digest(values_of(run.params, by)))
    values = [values_of(group[0].params, by) for group in groups.values()]
    found = [
        Arm(_label(part, values, by), part, {run.seed: run for run in group})
        for part, group in zip(values, groups.values(), strict=True)
    ]
    here = values_of(working.flat(), by)
    # "at least": the runs' networks may have been completed with their defaults
    return sorted(found, key=lambda arm: (not here.items() <= arm.values.items(), arm.label))


def values_of(params: Mapping[str, Any], by: Sequence[str]) -> dict[str, Any]:
    """The params that define a variant: those in ``by``, and what belongs to them."""
    by = tuple(by)
    return {key: value for key, value in params.items() if scored.is_in(key, by)}


def check_fingerprints(runs: Iterable[Run], by: Sequence[str]) -> str:
    """The fingerprint that all runs share, without its sampling if ``by`` varies that. Raises UserError if they differ.

    Without its sampling, the fingerprint has no sampling precision; that may differ only if ``by`` varies it.
    """
    sampling = any(scored.under(key, "sample") for key in by)
    precise = sampling and not any(scored.under("sample.precision", key) for key in by)

    def rests_on(run: Run) -> tuple[str, str]:
        fingerprint = run.fingerprint_without_sampling if sampling else run.fingerprint
        if fingerprint is None:
            raise UserError(
                f"{run.name} ({run.source}): its fingerprint has no hash_without_sampling, which comparing "
                f"{', '.join(by)} needs: evaluate it again"
            )
        drawn = f" drawn in {run.sampling_precision or 'an unknown precision'}" if precise else ""
        return fingerprint, drawn

    alike = scored.grouped(runs, rests_on)
    if len(alike) > 1:
        names = {key: some([run.name for run in group]) for key, group in alike.items()}
        shown = "; ".join(f"{fingerprint[:7]}{drawn}: {names[fingerprint, drawn]}" for fingerprint, drawn in alike)
        raise UserError(
            f"fingerprints differ, so these scores can't be compared ({shown}): metrics/fingerprint.json says what "
            "each rests on; score them alike, or remove the odd ones"
        )
    return next(iter(alike))[0]


def setting(metric: str, pair: Pair) -> str:
    """What a pair was trained on, at what cost, and how it was scored, for a sentence, with the score of real images.

    Where the two differ it is "the variant's against the baseline's".
    """
    sides = pair.after[-1], pair.before[-1]

    def of(form: Callable[[Run], str]) -> str:
        return " against ".join(dict.fromkeys(map(form, sides)))

    def count(name: str, what: str) -> str:
        return f"{of(lambda run: format(getattr(run, name) or math.nan, ','))} {what}"

    run, extractor = sides[0], metric.rpartition(".")[0]
    shape = Shape.of(run.params["data.channels"], run.params["data.image_size"])
    parts = [f"{run.params['data.dataset.name']} {shape.sides}"]
    parts += [count("images_seen", "images seen in training"), count("parameters", "parameters")]
    if not extractor:
        return ", ".join([*parts, f"{run.params['evaluate.likelihood.images']:,} held-out images"])
    samples = run.params["sample.count"]
    parts.append(of(lambda run: f"{run.params['sample.sampler.name']} in {run.params['sample.steps']} steps"))
    parts += [f"{samples:,} samples", f"features of {extractor}"]
    if (real := run.scores.get(f"real.{metric}")) is not None:
        others = round(run.scores.get(f"real.{extractor}.count", samples))
        parts.append(f"where {'' if others == samples else f'{others:,} '}real images have {real:.4g}")
    return ", ".join(parts)


def check_alike(arms: Sequence[Arm], may_differ: Collection[str]) -> list[str]:
    """A note for each of ALIKE in which runs differ. Raises UserError if partners, which have one seed, differ in one
    that ``may_differ`` does not name. Seeds that differ in all arms alike favour none; code is the same everywhere."""
    runs = [run for arm in arms for run in arm.runs.values()]
    notes, refused = code_differences(runs), {}
    if notes and "code" not in may_differ:
        refused["code"] = "; ".join(notes)
    for name in ALIKE[:-1]:
        if len({value for arm in arms for value in arm.spent(name)}) < 2:
            continue
        shown = (" or ".join(f"{n:,}" if isinstance(n, int) else n for n in arm.spent(name)) for arm in arms)
        parts = (f"{arm.label} {values or 'unknown'}" for arm, values in zip(arms, shown, strict=True))
        notes.append(f"{name.replace('_', ' ')} differ: {', '.join(parts)}")
        by_seed = scored.grouped(runs, lambda run: run.seed).values()
        if name not in may_differ and any(len({getattr(run, name) for run in alike} - {None}) > 1 for alike in by_seed):
            refused[name] = notes[-1]
    if refused:
        names = ", ".join(refused)
        raise UserError(
            f"{'; '.join(refused.values())}: a gap may be theirs: run the odd ones again, or allow it by `may_differ: "
            f"[{names}]` in the plan, or `--may-differ {names.replace(',', '')}`"
        )
    return notes


def code_differences(runs: Sequence[Run]) -> list[str]:
    """A line that names the code files in which the runs differ, if any."""
    versions = Counter(path for path, _ in {version for run in runs for version in run.code.items()})
    differing = sorted(path for path, count in versions.items() if count > 1)
    if not differing:
        return []
    alike = scored.grouped(runs, lambda run: files.digest([run.code.get(path) for path in differing]))
    names = "; ".join(some([run.name for run in group]) for group in alike.values())
    return [f"code differs in {some(differing)}: {names}"]


def choose_metrics(runs: Sequence[Run], chosen: Sequence[str]) -> list[str]:
    """The chosen metrics, or those that all runs have. Raises UserError if one is missing or not a number."""
    anywhere = metrics.in_order({name for run in runs for name in run.scores if metrics.is_judged(name)})
    for name in chosen:
        if name not in anywhere:
            raise UserError(
                f"--metrics: no run has {name!r}{variants.closest(name, anywhere)}; allowed: {', '.join(anywhere)}"
            )
        if missing := [run.name for run in runs if name not in run.scores]:
            raise UserError(f"--metrics: {name} is missing in {some(missing)}; evaluate again, or leave it out")
    everywhere = [name for name in anywhere if all(name in run.scores for run in runs)]
    names = metrics.in_order(set(chosen)) or metrics.judged(everywhere)
    if not names:
        raise UserError(f"no metric is in all runs; in some: {', '.join(anywhere) or 'none'}")
    needed = [*names, *filter(None, map(metrics.kid_of, names))]
    for run in runs:
        if odd := [name for name in needed if not math.isfinite(run.scores.get(name, 0))]:
            raise UserError(
                f"{run.name} ({run.source}), seed {run.seed}: {odd[0]} is {run.scores[odd[0]]}; look at its samples, "
                "and run it again or remove it"
            )
    return names


def paired(wanted: Iterable[tuple[Arm, Arm]], by: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Runs of the same seeds, and notes on those without a partner. Raises UserError if no pair has two seeds."""
    found, notes, too_few = [], [], []
    for before, after in wanted:
        seeds = sorted(before.runs.keys() & after.runs.keys())
        what = f"{after.label} against {before.label}"
        if len(seeds) < 2:
            own = ", ".join(f"{arm.label} has {named(arm.runs)}" for arm in (before, after))
            too_few.append(f"{what}: {len(seeds) or 'no'} seed in common ({own})")
            continue
        for arm, other in ((before, after), (after, before)):
            if alone := arm.runs.keys() - set(seeds):
                notes.append(f"{what}: {arm.label}'s {named(alone)} left out, which {other.label} does not have")
        partners = (tuple(arm.runs[seed] for seed in seeds) for arm in (before, after))
        found.append(Pair(before.label, after.label, *partners))
    if not found:
        raise UserError(
            f"{'; '.join(too_few)}: at least two are needed, and six for a verdict of better or worse: "
            f"`dvc exp run -S {by[0]}=VALUE -S seed=N` runs one"
        )
    return found, [*notes, *(f"left out: {line}; at least two are needed" for line in too_few)]


def named(seeds: Iterable[int]) -> str:
    """Training seeds, for a message."""
    ordered = sorted(seeds)
    return f"seed{'s' * (len(ordered) > 1)} {' '.join(map(str, ordered))}"


def _label(values: Mapping[str, Any], every: Sequence[Mapping[str, Any]], by: Sequence[str]) -> str:
    """The values of the keys in ``by``; if another variant has the same, also what else distinguishes it."""

    def head(part: Mapping[str, Any]) -> str:
        return ", ".join(str(part[key]) for key in by if key in part)

    def tail(key: str) -> str:
        section = next(name.removesuffix(".name") for name in by if scored.is_in(key, (name,)))
        return f"{key.removeprefix(f'{section}.')}={values[key]}"

    namesakes = [part for part in every if head(part) == head(values)]
    apart = [key for key in values if any(part.get(key) != values[key] for part in namesakes)]
    rest = ", ".join(map(tail, apart))
    return f"{head(values)} ({rest})" if head(values) and rest else head(values) or rest
