"""Scored runs, wherever they were recorded: DVC's experiments, the working folder, MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Strict, TypeAdapter, ValidationError

from ddpm import config, experiments, metrics, params_file, tracking, variants
from ddpm.config import Config
from ddpm.errors import UserError
from ddpm.experiments import Snapshot
from ddpm.files import digest, flatten
from ddpm.tracking import Logged

# params keys that leave what is learned and scored alone, to rounding: the whole of a section, or one key
MECHANICAL = (
    "device",
    "launch",
    "data.source",
    "train.checkpoint_every",
    "train.grid_every",
    "train.grid_unit",
    "sample.batch_size",
    "evaluate.batch_size",
    "compare",
    "gate",
)
SEED = "seed"
SHOWN_KEYS = 4
PARAMS = str(params_file.PATH)
FINGERPRINT = "metrics/fingerprint.json"
FACTS = (FINGERPRINT, "metrics/train.json", "metrics/sample.json")
REQUIRED = (PARAMS, experiments.EVALUATE, FINGERPRINT)
SCORES = TypeAdapter(dict[str, Annotated[float, Strict()]])


@dataclass(frozen=True)
class Result:
    """A trained and scored model.

    source: dvc | workspace | mlflow | git. params: key (``diffusion.schedule.name``) -> plain value, with defaults,
    less the blocks of variants that are not chosen. scores: as in metrics/evaluate.json, keys joined by dots. when:
    seconds since the epoch. None where the run does not tell.
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
    when: float


@dataclass(frozen=True)
class Gathered:
    """Each run once; a note says what was left out and why."""

    results: tuple[Result, ...]
    notes: tuple[str, ...]


class _Facts(BaseModel):
    """Of metrics/{train,sample,fingerprint}.json, what is wanted here."""

    model_config = ConfigDict(strict=True, extra="ignore")

    images_seen: int | None = None
    parameters: int | None = None
    evaluations_per_image: int | None = None
    hash: str
    hash_without_sampling: str | None = None


def gather() -> Gathered:
    """Every scored run of the repository and of its MLflow store. Raises UserError when there is none."""
    snapshots = [*experiments.experiments(), experiments.workspace()]
    readers = [(at.name, partial(of_snapshot, at)) for at in snapshots if experiments.EVALUATE in at.files]
    scored = [run for run in tracking.logged() if any(map(metrics.is_judged, run.metrics))]
    readers += [(run.name, partial(of_logged, run)) for run in scored]
    results, left_out = [], dict[str, list[str]]()
    for name, read in readers:
        try:
            results.append(read())
        except UserError as error:
            left_out.setdefault(str(error), []).append(name)
    notes = tuple(f"left out {', '.join(names)}: {reason}" for reason, names in left_out.items())
    if not results:
        why = "; ".join(notes) or "none in DVC's experiments, metrics/ and MLflow"
        raise UserError(f"no scored run: {why}; `dvc exp run -S seed=1` makes one")
    return Gathered(_once(results), notes)


def at_revision(name: str) -> Result:
    """The run of an experiment by its name, of a git revision, or of the ``workspace``. Raises UserError."""
    snapshot = experiments.revision(name)
    try:
        return of_snapshot(snapshot)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def of_snapshot(snapshot: Snapshot) -> Result:
    """Raises UserError when a file is missing or unreadable, or the scores are another configuration's."""
    files = snapshot.files
    if missing := [path for path in REQUIRED if path not in files]:
        raise UserError(f"{missing[0]} is missing")
    raw = params_file.decode(files[PARAMS].decode(errors="replace"), PARAMS)
    if reason := experiments.why_stale(files, raw):
        raise UserError(reason)
    try:
        scores = SCORES.validate_python(flatten(json.loads(files[experiments.EVALUATE])))
        facts = _Facts.model_validate(
            {key: value for path in FACTS for key, value in json.loads(files.get(path, b"{}")).items()}
        )
    except ValidationError as error:
        raise UserError(f"its metrics/ can't be read: {variants.explain(error, _Facts, '')}") from error
    except (AttributeError, RecursionError, ValueError) as error:  # no JSON, or no mapping
        raise UserError(f"its metrics/ can't be read: {error}") from error
    return _result(snapshot.name, snapshot.source, config.parse(raw, PARAMS), scores, facts, snapshot.when)


def of_logged(run: Logged) -> Result:
    """Raises UserError when the run has no fingerprint, or params that are none of this version's."""
    nested: dict[str, Any] = {}
    for key, text in run.params.items():
        *sections, name = key.split(".")
        block = nested
        for section in sections:
            block = block.setdefault(section, {})
        block[name] = _plain(text)
    if "ddpm.fingerprint" not in run.tags:
        raise UserError("no tag ddpm.fingerprint: logged by an older version, or evaluated elsewhere")
    facts = _Facts(
        images_seen=_whole(run.metrics.get("train.images_seen")),
        parameters=_whole(run.metrics.get("train.parameters")),
        evaluations_per_image=_whole(run.metrics.get("sample.evaluations_per_image")),
        hash=run.tags["ddpm.fingerprint"],
        hash_without_sampling=run.tags.get("ddpm.fingerprint_without_sampling"),
    )
    scores = {name: value for name, value in run.metrics.items() if metrics.is_judged(name)}
    return _result(run.name, "mlflow", config.parse(nested, "its params"), scores, facts, run.started)


def plain_params(chosen: Config) -> dict[str, Any]:
    """``Result.params`` of a config."""
    sections = chosen.to_dict()
    model = sections["model"]
    sections["model"] = {key: model[key] for key in ("name", model["name"]) if key in model}
    return flatten(sections)


def matching(results: Iterable[Result], working: Config, by: Iterable[str] = ()) -> Gathered:
    """The runs that differ from the working params in ``by``, the seed and mechanical keys at most, by seed.

    Of runs with the same params and other scores, the newest is taken, and a note says so. Raises UserError when there
    is none; it names the keys in which the nearest run differs.
    """
    by, here, runs = tuple(by), plain_params(working), list(results)
    if len({_model_keys(params) for params in (here, *(run.params for run in runs))}) > 1:
        here = _with_model_defaults(here)
        runs = [replace(run, params=_with_model_defaults(run.params)) for run in runs]
    differing = [(differences(run.params, here, by), run) for run in runs]
    alike = [run for keys, run in differing if not keys]
    if not alike:
        raise UserError(f"no scored run has the params of params.yaml{_but_for(by)}: {nearest(runs, here, by)}")
    same: dict[str, list[Result]] = {}
    for run in alike:
        same.setdefault(_key(run.params, by), []).append(run)
    notes = []
    for group in same.values():
        group.sort(key=lambda run: run.when)
        if len(group) > 1:
            names = ", ".join(f"{run.name} ({run.source})" for run in group)
            notes.append(f"same params and other scores, by other code or data: {names}; the last is the newest: taken")
    chosen = sorted((group[-1] for group in same.values()), key=lambda run: run.seed)
    return Gathered(tuple(chosen), tuple(notes))


def differences(params: Mapping[str, Any], others: Mapping[str, Any], by: Iterable[str] = ()) -> list[str]:
    """The keys with different values, less those of ``by``, the seed and mechanical ones."""
    by = tuple(by)
    return [
        key
        for key in sorted(params.keys() | others.keys())
        if params.get(key) != others.get(key) and not varied(key, by) and not _is_mechanical(key) and key != SEED
    ]


def nearest(results: Iterable[Result], params: Mapping[str, Any], by: Iterable[str] = ()) -> str:
    """Which run differs in the fewest keys, and in which, for a message."""
    by = tuple(by)
    run = min(results, key=lambda run: len(differences(run.params, params, by)))
    keys = differences(run.params, params, by)
    shown = [f"{key} ({run.params.get(key)} there, {params.get(key)} here)" for key in keys[:SHOWN_KEYS]]
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return f"the nearest, {run.name}, differs in {', '.join(shown)}{more}"


def varied(key: str, by: Iterable[str]) -> bool:
    """Whether a key is one of ``by``, stands in a section that is, or belongs to a variant whose name is."""
    return any(under(key, name.removesuffix(".name")) for name in by)


def under(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _is_mechanical(key: str) -> bool:
    return any(under(key, mechanical) for mechanical in MECHANICAL)


def _but_for(by: Iterable[str]) -> str:
    return f" but for {', '.join(by)} and the seed" if by else " but for the seed"


def _key(params: Mapping[str, Any], by: Iterable[str] = ()) -> str:
    by = tuple(by)
    return digest({key: value for key, value in params.items() if varied(key, by) or not _is_mechanical(key)})


def _once(results: Iterable[Result]) -> tuple[Result, ...]:
    """One of those with the same params, scores and fingerprint, under its first name and earliest time."""
    same: dict[str, list[Result]] = {}
    for run in results:
        scores = {name: repr(score) for name, score in run.scores.items() if metrics.is_judged(name)}
        same.setdefault(digest([_key(run.params), scores, run.fingerprint]), []).append(run)
    return tuple(replace(runs[0], when=min(run.when for run in runs)) for runs in same.values())


def _model_keys(params: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(key for key in params if under(key, "model"))


def _with_model_defaults(params: dict[str, Any]) -> dict[str, Any]:
    """With all hyperparameters of the network, which only its own module knows. Importing that imports torch."""
    name = params["model.name"]
    block = {key.removeprefix(f"model.{name}."): value for key, value in params.items() if under(key, f"model.{name}")}
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in block.items()}
    try:
        architecture = variants.build("models", {"name": name, name: frozen}, "model")
    except UserError:
        return params  # an older version's hyperparameters, which then differ
    return params | flatten({"model": json.loads(architecture.model_dump_json())})


def _result(name: str, source: str, chosen: Config, scores: dict[str, float], facts: _Facts, when: float) -> Result:
    return Result(
        name=name,
        source=source,
        params=plain_params(chosen),
        scores=scores,
        seed=chosen.seed,
        images_seen=facts.images_seen,
        parameters=facts.parameters,
        evaluations=facts.evaluations_per_image,
        fingerprint=facts.hash,
        fingerprint_without_sampling=facts.hash_without_sampling,
        when=when,
    )


def _plain(text: str) -> Any:
    """The value of a param that was logged as text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else round(value)
