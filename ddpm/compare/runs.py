"""Scored runs, wherever they were recorded: DVC's experiments, the working folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from ddpm.base.errors import UserError
from ddpm.base.files import digest, flatten
from ddpm.compare import block_yaml, measured, metrics, snapshots
from ddpm.compare.snapshots import CURVE, EVALUATE, EXCESS, FINGERPRINT, PARAMS, SAMPLE, TRAIN, Snapshot
from ddpm.params import config, credit, file
from ddpm.training.settings import TrainingConfig

# params keys that do not change what is learned and scored, except for rounding: a whole section, or one key
MECHANICAL = ("device", "launch", "data.source", *TrainingConfig.MECHANICAL, "sample.batch_size",
              "evaluate.batch_size", "compare", "gate")  # fmt: skip
KEYED = ("reference", "train", "sample", "evaluate")
SEED = "seed"
T = TypeVar("T")
K = TypeVar("K")
in_parts = partial(block_yaml.read, reader=file.plain)


@dataclass(frozen=True, config=ConfigDict(strict=True))
class Run:
    """A trained and scored model.

    source: dvc | workspace | git. params: key (``diffusion.schedule.name``) -> plain value, with defaults,
    without the blocks of variants that are not chosen. scores: as in metrics/evaluate.json, keys joined by dots.
    precision: of the training. processor: that trained it. code: path -> digest of each code file that made and scored
    it, empty if not known. when: seconds since the epoch, None if
    not known. curve: the scores by the images seen, with the end last, empty if not known. excess: metrics/excess.csv,
    empty if it is not at hand.
    """

    name: str
    source: str
    params: dict[str, Any]
    scores: dict[str, float]
    seed: int
    images_seen: int | None
    parameters: int | None
    evaluations: int | None
    fingerprint: str
    fingerprint_without_sampling: str | None
    sampling_precision: str | None
    code: dict[str, str]
    when: float
    precision: str | None = None
    processor: str | None = None
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    excess: bytes = b""


class Gathered(NamedTuple):
    """Each run once; a note says which were left out and why."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...]


def gather() -> Gathered:
    """Every scored run of the repository. Raises UserError if there is none."""
    kept = [*snapshots.experiments(), snapshots.workspace()]
    found, left_out = [], []
    for each in (at for at in kept if EVALUATE in at.files):
        try:
            found.append(of_snapshot(each))
        except UserError as error:
            left_out.append((str(error), each.name))
    reasons = grouped(left_out, lambda pair: pair[0])
    notes = tuple(f"left out {', '.join(name for _, name in pairs)}: {why}" for why, pairs in reasons.items())
    if not found:
        why = "; ".join(notes) or "none in DVC's experiments and metrics/"
        raise UserError(f"no scored run: {why}; `dvc exp run -S seed=1` makes one")
    return Gathered(_once(found), notes)


def of_snapshot(snapshot: Snapshot) -> Run:
    """The run in a snapshot. Raises UserError if a file is missing or unreadable, or the scores are of other params."""
    files = snapshot.files
    if missing := [path for path in (PARAMS, EVALUATE, FINGERPRINT) if path not in files]:
        raise UserError(f"{missing[0]} is missing")
    raw = file.decode(files[PARAMS].decode(errors="replace"), PARAMS, in_parts)
    if reason := snapshots.why_stale(files, raw):
        raise UserError(reason)
    chosen: config.Config = config.check(raw, PARAMS)
    credit.check(chosen, credit.recorded(files=files))
    code = snapshots.code(files, KEYED)
    try:
        scores, fingerprint, numbers = recorded(files)
        run = _run(snapshot, snapshot.when, chosen, scores, numbers, fingerprint, code)
        curve = by_images(files[CURVE]) if CURVE in files else {}
        return replace(run, curve=curve, excess=files.get(EXCESS, b""))
    except (UserError, ValidationError) as error:
        reason = measured.refusal(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(f"its metrics/ can't be read: {reason}") from error


def recorded(files: Mapping[str, bytes]) -> tuple[dict[str, Any], ...]:
    """What the files of metrics/ say, keys joined by dots: the scores, the fingerprint, and the numbers of train.json
    and sample.json. Raises UserError if one is not JSON, or a score is not a number of sane size."""
    paths = (EVALUATE, FINGERPRINT, TRAIN, SAMPLE)
    scores, fingerprint, train, sample = (measured.parse(files.get(path, b"{}")) for path in paths)
    judged = measured.finite(flatten(scores), EVALUATE)
    return judged, flatten(fingerprint), flatten({"train": train, "sample": sample})


def by_images(text: bytes) -> dict[int, dict[str, float]]:
    """metrics/curve.csv: images seen -> name -> score, without those that are empty. Raises UserError."""
    found: dict[int, dict[str, float]] = {}
    try:
        for row in csv.DictReader(text.decode().splitlines(), strict=True):
            images = int(row.pop("images"))
            found[images] = {name: float(score) for name, score in row.items() if score}
            if any(not math.isfinite(score) for score in found[images].values()):
                raise ValueError(f"not a number after {images} images")
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{CURVE}: not scores by images seen ({error})") from error
    return found


def _run(
    of: Snapshot,
    when: float,
    chosen: config.Config,
    scores: dict[str, float],
    numbers: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    code: dict[str, str],
) -> Run:
    """numbers: from train.json and sample.json; fingerprint: from fingerprint.json; keys joined by dots."""
    return Run(
        name=of.name,
        source=of.source,
        params=chosen.flat(),
        scores=scores,
        seed=chosen.seed,
        images_seen=numbers.get("train.images_seen"),
        parameters=numbers.get("train.parameters"),
        evaluations=numbers.get("sample.evaluations_per_image"),
        fingerprint=fingerprint.get("hash"),  # type: ignore[arg-type]
        fingerprint_without_sampling=fingerprint.get("hash_without_sampling"),
        sampling_precision=fingerprint.get("comparable.sampling.precision"),
        precision=fingerprint.get("environment.training_precision"),
        processor=fingerprint.get("environment.processor"),
        code=code,
        when=when,
    )


def matching(found: Iterable[Run], working: config.Config, by: Iterable[str] = ()) -> Gathered:
    """The runs that differ from the working params only in ``by``, the seed and mechanical keys, in order of seed.

    Among runs with the same params, one made by the checked-out code is preferred, then the newest; a note says if
    their scores differ. Raises UserError if there is none; it names the keys in which the most similar run differs.
    """
    by, here, runs = tuple(by), working.flat(), list(found)
    close = (run for run in runs if not differences(run.params, here, by))
    same = grouped(close, lambda run: _key(run.params, by))
    if not same:
        varying = ", ".join([*by, "the seed"])
        raise UserError(f"no scored run has the params of params.yaml but for {varying}: {most_alike(runs, here, by)}")
    notes = []
    for group in same.values():
        if len(group) > 1:
            group.sort(key=lambda run: (snapshots.is_checked_out(run.code), run.when))
        if any(run.scores != group[-1].scores for run in group):
            names = ", ".join(f"{run.name} ({run.source})" for run in group)
            why = "of the code that is checked out" if snapshots.is_checked_out(group[-1].code) else "the newest"
            notes.append(f"same params and other scores, by other code or data: {names}; the last is {why}: taken")
    chosen = sorted((group[-1] for group in same.values()), key=lambda run: run.seed)
    return Gathered(tuple(chosen), tuple(notes))


def differences(params: Mapping[str, Any], others: Mapping[str, Any], by: tuple[str, ...] = ()) -> list[str]:
    """The keys with different values, without those of ``by``, the seed and mechanical keys."""
    differing = [key for key in sorted(params.keys() | others.keys()) if params.get(key) != others.get(key)]
    return [key for key in differing if not is_in(key, by) and not is_in(key, (*MECHANICAL, SEED))]


def most_alike(runs: Iterable[Run], params: Mapping[str, Any], by: tuple[str, ...] = ()) -> str:
    """The run that differs in the fewest keys, and these keys, for a message."""
    keys, run = min(((differences(run.params, params, by), run) for run in runs), key=lambda each: len(each[0]))
    shown = some([f"{key} ({run.params.get(key)} there, {params.get(key)} here)" for key in keys], 4)
    return f"the nearest, {run.name}, differs in {shown}"


def some(names: Sequence[str], most: int = 3, between: str = ", ") -> str:
    """The first names, and how many more there are, for a message."""
    return between.join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by key, in the order in which they come."""
    found: dict[K, list[T]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


@lru_cache(maxsize=2**12)  # a thousand runs have the same keys
def is_in(key: str, by: tuple[str, ...]) -> bool:
    """Whether ``by`` names a key, a section that it is in, or the variant (``schedule.name``) that it belongs to."""
    return any(under(key, name.removesuffix(".name")) for name in by)


def under(key: str, section: str) -> bool:
    """Whether a params key is the section, or is in it."""
    return key == section or key.startswith(f"{section}.")


def _key(params: Mapping[str, Any], by: tuple[str, ...] = ()) -> str:
    """A key that is equal for runs that differ only in mechanical keys and ``by``."""
    return digest({key: value for key, value in params.items() if is_in(key, by) or not is_in(key, MECHANICAL)})


def _once(found: Iterable[Run]) -> tuple[Run, ...]:
    """Runs with the same params, scores, fingerprint and code become one, with the first name and time."""

    def identity(run: Run) -> str:
        scores = {name: repr(score) for name, score in run.scores.items() if metrics.is_judged(name)}
        return digest([_key(run.params), scores, run.fingerprint, run.code])

    groups = grouped(found, identity).values()
    return tuple(replace(group[0], when=min(run.when for run in group)) for group in groups)
