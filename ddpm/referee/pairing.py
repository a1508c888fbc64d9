"""Which runs may be compared with which: arms, which differ in some params keys, paired by training seed."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import mode
from typing import Any, get_args

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.sections import is_in, under
from ddpm.base.variant import closest
from ddpm.params.config import Config
from ddpm.referee import Alike, metrics
from ddpm.runs import record
from ddpm.runs.alike import group_by, some, unlike
from ddpm.runs.record import Costs, Record
from ddpm.scoring import metric
from ddpm.sources.dataset import name_images
from ddpm.verdicts.arms import Arm, Pair, name_alone, partners, refuse_twins

# what a run cost -> in words; an arm is not better because it had more
BUDGETS = {"images_seen": "images seen", "parameters": "parameters", "evaluations": "evaluations"}
ALIKE: tuple[Alike, ...] = get_args(Alike)
UNSAID = ("threads", "kernels")  # facts that no program states
OURS = "this trainer"  # the label of its runs if they have none of the params that vary


def fact(run: Any, name: str) -> Any:
    """The run's value of one of ALIKE, except for code; None if it is unknown, as for a table's row."""
    if not isinstance(run, Record):
        return None
    if name in UNSAID:
        return run.environment.get(name)
    return getattr(run.costs if name in Costs.model_fields else run, name)


def facts(arm: Arm, name: str) -> list[Any]:
    """The known values of one of ALIKE, except for code, in ascending order."""
    return sorted({fact(run, name) for run in arm.runs.values()} - {None})


def cost(arm: Arm, budget: str) -> int | None:
    """The cost of each run; None if the runs differ, or it is unknown."""
    return known[0] if len(known := facts(arm, budget)) == 1 else None


def check_keys(by: Sequence[str], records: Iterable[Record], config: Config) -> None:
    """Raises UserError unless each is a params key, or a section of them, in which runs can differ."""
    known = set(config.flat()).union(*(run.params for run in records))
    for key in by:
        if key == record.SEED:
            raise UserError("--by: seed pairs the runs; allowed: other keys of params.yaml")
        if not any(under(name, key) for name in known):
            raise UserError(
                f"--by: no run has the key {key!r}{closest(key, known)}; allowed: a key of params.yaml, such as "
                "diffusion.schedule.name, or a section of it"
            )


def arms(records: Iterable[Record], by: Sequence[str], config: Config) -> list[Arm]:
    """The runs by arm: that of the config's params first, the others by label."""
    groups = group_by(records, lambda run: files.digest([values_of(run.params, by), run.program])).values()
    values = [values_of(group[0].params, by) for group in groups]
    sides = []
    for part, group in zip(values, groups, strict=True):
        label, program = _label(part, values, by), group[0].program
        label = f"{label} ({program})" if label and program not in (None, label) else label or program or OURS
        sides.append(Arm(label, part, {run.seed: run for run in group if run.seed is not None}))
    here = values_of(config.flat(), by)
    # "at least": the runs' networks may have been completed with their defaults
    return sorted(sides, key=lambda arm: (not here.items() <= arm.values.items(), arm.label))


def values_of(params: Mapping[str, Any], by: Sequence[str]) -> dict[str, Any]:
    """The params that define an arm: those in ``by``, and what belongs to them."""
    by = tuple(by)
    return {key: value for key, value in params.items() if is_in(key, by)}


def check(arms: Sequence[Arm], by: Sequence[str], may_differ: Collection[str]) -> tuple[str, list[str]]:
    """The fingerprint that the runs of arms which differ in ``by`` share, and notes on other differences.

    Raises UserError if a run is counted twice, runs were not scored alike, or partners differ in one of ALIKE that
    ``may_differ`` does not name.
    """
    check_distinct(arms)
    records = [run for arm in arms for run in arm.runs.values()]
    return check_fingerprints(records, by, may_differ) if records else "", _check_alike(arms, may_differ)


def check_fingerprints(records: Sequence[Record], by: Sequence[str], may_differ: Collection[str] = ()) -> str:
    """The fingerprint that all runs share. It is without the sampling if ``by`` varies that, or if a program drew some
    of the samples; the precision of sampling must still be the same, unless ``by`` varies it or it ``may_differ``.

    Raises UserError, which names what differs, unless they share one.
    """
    sampling = any(under(key, "sample") for key in by) or any(run.program for run in records)
    precision = "precision" not in may_differ and not any(under("sample.precision", key) for key in by)
    ours = next((run for run in records if not run.program), None)

    def rests_on(run: Record) -> dict[str, Any]:
        content = run.fingerprint.comparable
        drawn = (run if ours is None or not run.program else ours).fingerprint.comparable.get("sampling") or {}
        kept = {"precision": drawn.get("precision")} if sampling else drawn
        return content | {"sampling": kept if precision else kept | {"precision": None}}

    alike = group_by(records, lambda run: (run.fingerprint.hash, run.program)).values()  # a digest takes longer
    groups = list(group_by((group[0] for group in alike), lambda run: files.digest(rests_on(run))).values())
    if len(groups) > 1:
        one, other = (files.flatten(rests_on(group[0])) for group in groups[:2])
        shown = unlike((key for key in one | other if one.get(key) != other.get(key)), one, other)
        names = "; ".join(dict.fromkeys(some([run.name for run in group]) for group in groups))
        raise UserError(
            f"fingerprints differ, so these scores can't be compared ({names}): {shown}: score all of them alike"
        )
    same = len({run.fingerprint.hash for run in records}) == 1
    return records[0].fingerprint.hash if same and not sampling else records[0].fingerprint.without("sampling")


def setting(name: str, pair: Pair) -> str:
    """A pair's training data, costs and scoring, for a sentence, with the score of real images.

    Where the two differ, it is "the arm's against the baseline's". What is unknown of either is left out.
    """
    last = pair.after[-1], pair.before[-1]

    def of(form: Callable[[Record], str]) -> str:
        return " against ".join(dict.fromkeys(map(form, last)))

    def count(cost: str, what: str) -> list[str]:
        costs = dict.fromkeys(fact(run, cost) for run in last)
        return [] if None in costs else [f"{' against '.join(f'{spent:,}' for spent in costs)} {what}"]

    # preferably a run of this trainer: of a program's, little is known
    run, extractor = min(last, key=lambda run: run.program is not None), name.rpartition(".")[0]
    parts = [images(run)] if "data.dataset.name" in run.params else []
    parts += [*count("images_seen", "images seen in training"), *count("parameters", "parameters")]
    if not extractor:
        return ", ".join([*parts, f"{run.params['evaluate.likelihood.images']:,} held-out images"])
    samples: int = run.fingerprint.comparable["samples"]
    parts.append(of(_sampler))
    parts += [f"{samples:,} samples", _name_eyes(extractor, run)]
    if (real := run.scores.get(f"real.{name}")) is not None:
        others = round(run.scores.get(f"real.{extractor}.count", samples))
        parts.append(f"where {'' if others == samples else f'{others:,} '}real images have {real:.4g}")
    if any(one.program for one in last):
        parts.append("training seeds as stated")
    return ", ".join(parts)


def _name_eyes(extractor: str, run: Record) -> str:
    """The eyes that looked at the samples, for a score that begins with ``extractor``."""
    if extractor == metric.OPPONENT:
        return "told from real images by fresh networks"
    if f"{extractor}." != metrics.EYES:
        return f"features of {extractor}"
    eyes = (name for name in sorted(run.scores) if name.startswith(metrics.EYES) and name != metrics.PANEL)
    return f"eyes: {', '.join(name.removeprefix(metrics.EYES) for name in eyes)}"


def images(run: Record) -> str:
    """The images that a run was trained on: "digits 16x16", or "photos 32x32" for a folder called photos."""
    size = run.params.get("data.image_size", "?")
    sides = "x".join(map(str, size)) if isinstance(size, list | tuple) else f"{size}x{size}"
    if (dataset := run.params.get("data.dataset.name")) is None:
        return "unknown images"
    source = run.params.get("data.source")
    return f"{name_images(dataset, source) if source else dataset} {sides}"  # a verdict asks thousands of times


def _sampler(run: Record) -> str:
    if run.program:
        return f"drawn by {run.program}"
    return f"{run.params.get('sample.sampler.name', '?')} in {run.params.get('sample.steps', '?')} steps"


def check_distinct(arms: Iterable[Arm]) -> None:
    """Raises UserError if two seeds of an arm have the same samples or the same scores."""
    refuse_twins(arms, {"samples": lambda run: run.samples, "scores": _own_scores})


def _own_scores(run: Record) -> Sequence[tuple[str, float]]:
    """The scores of a run's samples; none if there are two or fewer, which may well be the same twice."""
    own = tuple(item for item in run.scores.items() if not record.OF_REAL.search(item[0]))
    return own if len(own) > 2 else ()


def _check_alike(arms: Sequence[Arm], may_differ: Collection[str]) -> list[str]:
    """A note for each of ALIKE in which runs differ, or which is unknown for an arm.

    Raises UserError if partners, which have the same seed, differ in one that ``may_differ`` does not name. If seeds
    differ, but in all arms alike, no arm has an advantage. Code must be the same for all runs, except for programs.
    """
    runs = [run for arm in arms for run in arm.runs.values()]
    seeds = group_by(runs, lambda run: run.seed).values()
    notes = {name: line for name in ALIKE if (line := _unlike(name, arms))}
    apart = {name for name in ALIKE[1:] for alike in seeds if len({fact(run, name) for run in alike} - {None}) > 1}
    if refused := [name for name in notes if name in {"code", *apart} and name not in may_differ]:
        usual = {name: mode(fact(run, name) for run in runs) for name in refused if name != "code"}
        odd = [run.name for run in runs if any(fact(run, name) not in (None, usual[name]) for name in usual)]
        which = f" ({some(odd)})" if odd else ""
        raise UserError(
            f"{'; '.join(notes[name] for name in refused)}: a difference in scores may come from that: run the odd "
            f"ones{which} again, or allow it by `may_differ: [{', '.join(refused)}]` in the "
            f"plan, or `--may-differ {' '.join(refused)}`"
        )
    return [*notes.values()]


def _unlike(name: str, arms: Sequence[Arm]) -> str:
    """A line about one of ALIKE in which runs differ, or which is unknown for an arm; otherwise empty."""
    if name == "code":
        return _code_differences([run for arm in arms for run in arm.runs.values()])
    by_arm = {arm.label: facts(arm, name) for arm in arms if arm.runs}
    known = {value for values in by_arm.values() for value in values}
    if not known or (len(known) == 1 and (all(by_arm.values()) or name in UNSAID)):
        return ""
    words = ([value if isinstance(value, str) else f"{value:,.0f}" for value in values] for values in by_arm.values())
    shown = (f"{label} {' or '.join(values) or 'unknown'}" for label, values in zip(by_arm, words, strict=True))
    return f"different {name.replace('_', ' ')}: {', '.join(shown)}"


def _code_differences(records: Sequence[Record]) -> str:
    """A line that names the code in which the runs differ; empty if there is none."""
    versions = Counter(path for path, _ in {version for run in records for version in run.code.items()})
    differing = sorted(path for path, count in versions.items() if count > 1)
    groups = group_by(records, lambda run: files.digest([run.code.get(path) for path in differing])).values()
    names = "; ".join(some([run.name for run in group]) for group in groups)
    return f"code differs in {some(differing)}: {names}" if differing else ""


def pair_arms(arms: Sequence[Arm], by: Sequence[str]) -> tuple[list[Pair], list[str]]:
    """Each arm paired with the first one, and notes on runs without a partner. Raises UserError if no pair has two
    seeds."""
    pairs, notes = [], list[str]()
    before, *others = arms
    for after in others:
        notes += name_alone(before, after)
        pair = partners(before, after)
        if len(pair.after) > 1:
            pairs.append(pair)
        else:
            notes.append(f"left out: {pair.arm} against {pair.baseline}: fewer than two seeds in common")
    if not pairs:
        drawn = any(run.program for arm in arms for run in arm.runs.values())
        remedy = "ddpm score SAMPLES --seed N` adds" if drawn else f"dvc exp run -S {by[0]}=VALUE -S seed=N` runs"
        needed = "a comparison needs two, and a verdict of better or worse six"
        raise UserError(f"{'; '.join(notes)}: {needed}: `{remedy} one")
    return pairs, notes


def _label(values: Mapping[str, Any], every: Sequence[Mapping[str, Any]], by: Sequence[str]) -> str:
    """The values of the keys in ``by`` and, of an arm that shares them with another, of the keys in which that
    differs. Empty without such params."""
    heads = [", ".join(str(part[key]) for key in by if key in part) for part in every]
    head = heads[every.index(values)]
    namesakes = [part for part, other in zip(every, heads, strict=True) if other == head]
    rest = [f"{key}={value}" for key, value in values.items() if any(part.get(key) != value for part in namesakes)]
    return f"{head} ({', '.join(rest)})" if head and rest else head or ", ".join(rest)
