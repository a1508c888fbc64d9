"""What git holds of DVC's experiments: the files that show what ran and how it scored.

An experiment is a commit under refs/exps. Asking DVC for the experiments would load each one's pipeline and take a
hundred times as long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pygit2
import yaml
from pydantic import BaseModel

from ddpm.base import paths
from ddpm.base.errors import UserError
from ddpm.base.files import md5
from ddpm.compare import block_yaml
from ddpm.params import config, credit, file, inputs
from ddpm.runs import library
from ddpm.runs.library import WORKSPACE, below, repository

LOCK = "dvc.lock"
EVALUATE, FINGERPRINT, CURVE, EXCESS = map(str, (paths.EVALUATE, paths.FINGERPRINT, paths.CURVE, paths.EXCESS))
TRAIN, SAMPLE = (f"{paths.METRICS}/{stage}.json" for stage in ("train", "sample"))
PARAMS = str(file.PATH)
FILES = (PARAMS, LOCK, EVALUATE, FINGERPRINT, TRAIN, SAMPLE, CURVE, EXCESS)


class Snapshot(NamedTuple):
    """A state of the project. files: the contents of those FILES that it has; when: seconds since the epoch; base: the
    params.yaml of the commit that an experiment started from, if there is one."""

    name: str
    source: str
    when: float
    files: dict[str, bytes]
    base: bytes = b""


class _Output(BaseModel):
    path: str
    md5: str | None = None


class _Stage(BaseModel):
    params: dict[str, dict[str, Any]] = {}
    deps: list[_Output] = []
    outs: list[_Output] = []


class _Lock(BaseModel):
    stages: dict[str, _Stage]


def experiments() -> list[Snapshot]:
    """All experiments of the repository, whatever commit they started from, oldest first. Raises UserError."""
    git = repository()
    return sorted(
        (read(git, name, "dvc", commit) for name, commit in library.experiments(git)), key=lambda found: found.when
    )


def workspace() -> Snapshot:
    """The working folder as it is."""
    files = {path: Path(path).read_bytes() for path in FILES if Path(path).is_file()}
    when = Path(EVALUATE).stat().st_mtime if EVALUATE in files else 0.0
    return Snapshot(WORKSPACE, WORKSPACE, when, files)


def why_stale(files: Mapping[str, bytes], params: dict[str, Any]) -> str | None:
    """Why the metrics may be another configuration's; None if dvc.lock records that these params made them.

    They are another's if params were changed and the pipeline, or its last stages, did not run since. Anything that
    dvc.lock does not record counts as a reason too: DVC's cache may be elsewhere.
    """
    if LOCK not in files:
        return f"no {LOCK}"
    lock = _lock(files[LOCK])
    return next(_doubts(lock, files, params), None) if lock else f"{LOCK} can't be read"


def check_metrics() -> None:
    """Raises UserError unless the checked-out params and code made metrics/: Miscredited if DVC believes that they did.

    dvc.lock, which is in git too, records what made them: DVC's cache is not needed.
    """
    files, params = workspace().files, file.read()
    reason = why_stale(files, params)
    if not reason and (lock := _lock(files[LOCK])):
        reason = next(_changes(lock, params), None)
    if reason:
        raise UserError(
            f"{paths.METRICS}/ are not of the params and code that are checked out: {reason}; run `dvc repro`"
        )
    if any((identities := credit.recorded(files=files)).values()):
        credit.check(config.check(params), identities)


def code(files: Mapping[str, bytes], stages: Iterable[str]) -> dict[str, str]:
    """``inputs.code`` of what the stages ran. Raises UserError if two of them ran different versions of a file."""
    lock = _lock(files.get(LOCK, b""))
    ran_stages = lock.stages if lock else {}
    found: dict[str, str] = {}
    for name in filter(ran_stages.__contains__, stages):
        ran = inputs.code((dep.path, dep.md5) for dep in ran_stages[name].deps if dep.md5)
        if other := [path for path in ran if found.get(path, ran[path]) != ran[path]]:
            raise UserError(f"stage {name} ran with another {other[0]} than a stage before it")
        found |= ran
    return found


def is_checked_out(code: Mapping[str, str]) -> bool:
    """Whether the code is known, and equal to the code on disk."""
    return bool(code) and code == inputs.code((path, _md5(path) or "") for path in code)


@lru_cache(maxsize=1)  # a run's lock is asked for its doubts, then for its code
def _lock(text: bytes) -> _Lock | None:
    """The content of a dvc.lock; None if the text is not one. Do not change it: it is shared."""
    if len(text) > file.MAX_BYTES:
        return None
    try:
        # every scalar stays text here: a YAML 1.1 reader would read some numbers and words differently from DVC
        lock = _Lock.model_validate(block_yaml.read(text.decode()))
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    lock.stages.pop(inputs.CHECK, None)  # it also lists params that no score depends on
    return lock


def _doubts(lock: _Lock, files: Mapping[str, bytes], params: dict[str, Any]) -> Iterator[str]:
    """All reasons in a dvc.lock for ``why_stale``."""
    made = {out.path: out.md5 for stage in lock.stages.values() for out in stage.outs}
    below = tuple(f"{path}/" for path in made)
    for path in (EVALUATE, FINGERPRINT):
        if made.get(path) is None:
            yield f"{LOCK} does not say that a stage made {path}"
    for name, stage in lock.stages.items():
        for key, locked in stage.params.get(PARAMS, {}).items():
            if (value := inputs.lookup(params, key)) != locked and inputs.spelled(value) != inputs.spelled(locked):
                yield f"stage {name} ran with another {key} than {PARAMS} says"
        for out in stage.outs:
            if out.path in files and out.md5 != hashlib.md5(files[out.path], usedforsecurity=False).hexdigest():
                yield f"{out.path} is not what stage {name} wrote"
        for dep in stage.deps:
            if not f"{dep.path}/".startswith(below):  # like Path.is_relative_to, but fast
                continue
            if made.get(dep.path) != dep.md5:
                yield f"stage {name} ran with another {dep.path} than was made"


def _changes(lock: _Lock, params: dict[str, Any]) -> Iterator[str]:
    """For ``check_metrics``: changes since the stages ran, in metrics/ and in what no stage makes, such as code."""
    if not inputs.DVC_YAML.exists():
        yield f"no {inputs.DVC_YAML}"
        return
    here = yaml.safe_load(inputs.DVC_YAML.read_bytes())["stages"]
    made = [out.path for stage in lock.stages.values() for out in stage.outs]
    made += here.get(inputs.CHECK, {}).get("outs", [])  # which a clean clone does not have
    # dvc.lock keeps stages that dvc.yaml no longer has
    for name, stage in ((name, stage) for name, stage in lock.stages.items() if name in here):
        for out in stage.outs:
            if Path(out.path).is_relative_to(paths.METRICS) and _md5(out.path) != out.md5:
                yield f"{out.path} is not what stage {name} wrote"
        keys, deps = inputs.stage(name, params)
        known = {dep.path: dep.md5 for dep in stage.deps}
        unknown = {path for path in deps if path not in known}
        unknown |= {key for key in keys if isinstance(key, str) and key not in stage.params.get(PARAMS, {})}
        for each in sorted(unknown):
            yield f"stage {name} ran without {each}, which {inputs.DVC_YAML} lists"
        for path in filter(known.get, deps):
            if not any(Path(path).is_relative_to(out) for out in made) and _md5(path) != known[path]:
                yield f"{path} changed since stage {name} ran"


def _md5(path: str) -> str | None:
    """The md5 of a file; None if there is no such file."""
    return md5(Path(path)) if Path(path).exists() else None


def read(git: pygit2.Repository, name: str, source: str, commit: pygit2.Commit) -> Snapshot:
    """What a commit has."""
    parent = git.get(commit.parent_ids[0]) if commit.parent_ids else None  # None in a shallow clone, too
    base: dict[str, bytes] = _contents(git, parent, (PARAMS,)) if isinstance(parent, pygit2.Commit) else {}
    return Snapshot(name, source, float(commit.commit_time), _contents(git, commit, FILES), base.get(PARAMS, b""))


def content(commit: str, path: str) -> bytes | None:
    """The file in a commit; None if git does not have it."""
    git = repository()
    return _contents(git, git[commit].peel(pygit2.Commit), (path,)).get(path)


def _contents(git: pygit2.Repository, commit: pygit2.Commit, paths: Iterable[str]) -> dict[str, bytes]:
    folder, tree = below(git), commit.tree
    entries = {path: str(folder / path) for path in paths}
    blobs = {path: tree[entry] for path, entry in entries.items() if entry in tree}
    return {path: blob.data for path, blob in blobs.items() if isinstance(blob, pygit2.Blob)}
