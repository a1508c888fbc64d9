"""What git holds of DVC's experiments: the files that say what ran and how it scored.

They are read through git alone. An experiment is a commit under refs/exps; asking DVC would load each one's pipeline,
which takes a hundred times as long.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from ddpm import params_file
from ddpm.errors import UserError
from ddpm.inputs import lookup

LOCK = "dvc.lock"
EVALUATE = "metrics/evaluate.json"
FILES = (str(params_file.PATH), LOCK, EVALUATE, "metrics/fingerprint.json", "metrics/train.json", "metrics/sample.json")
WORKSPACE = "workspace"
CACHE = Path(".dvc/cache/files/md5")
EXPERIMENT_FORMAT = "%(objectname) %(committerdate:unix) %(refname)"
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # beside them stand DVC's stashes and locks


class Snapshot(NamedTuple):
    """A state of the project. files: the contents of those of FILES that it has; when: seconds since the epoch."""

    name: str
    source: str
    when: float
    files: dict[str, bytes]


class _Commit(NamedTuple):
    id: str
    name: str
    source: str
    when: float


class _Output(BaseModel):
    path: str
    md5: str | None = None


class _File(BaseModel):
    relpath: str
    md5: str


class _Stage(BaseModel):
    params: dict[str, dict[str, Any]] = {}
    deps: list[_Output] = []
    outs: list[_Output] = []


class _Lock(BaseModel):
    stages: dict[str, _Stage]


_LISTING = TypeAdapter(list[_File])  # of a folder, as DVC's cache has it


def experiments() -> list[Snapshot]:
    """All experiments of the repository, whatever commit they started from, oldest first. Raises UserError."""
    listed = _git("for-each-ref", "--sort=committerdate", "--format", EXPERIMENT_FORMAT, "refs/exps").decode()
    rows = [line.split(" ", 2) for line in listed.splitlines()]
    named = [(EXPERIMENT.fullmatch(reference), commit, float(when)) for commit, when, reference in rows]
    return _read([_Commit(commit, match[1], "dvc", when) for match, commit, when in named if match])


def revision(name: str) -> Snapshot:
    """An experiment by its name, a git revision, or ``workspace``. Raises UserError when there is none."""
    if name == WORKSPACE:
        return workspace()
    named = [snapshot for snapshot in experiments() if snapshot.name == name]
    if len(named) > 1:
        raise UserError(f"{name}: {len(named)} experiments have this name; give one's commit (`dvc exp show --sha`)")
    if named:
        return named[0]
    try:
        shown = _git("show", "--no-patch", "--format=%H %ct", "--end-of-options", f"{name}^{{commit}}").decode().split()
    except UserError as error:
        raise UserError(
            f"{name}: neither an experiment nor a git revision; `dvc exp show` and `git log --oneline` list them"
        ) from error
    return _read([_Commit(shown[0], name, "git", float(shown[1]))])[0]


def workspace() -> Snapshot:
    """The working folder as it is."""
    files = {path: Path(path).read_bytes() for path in FILES if Path(path).is_file()}
    when = Path(EVALUATE).stat().st_mtime if EVALUATE in files else 0.0
    return Snapshot(WORKSPACE, WORKSPACE, when, files)


def why_stale(files: Mapping[str, bytes], params: dict[str, Any]) -> str | None:
    """Why the metrics may be another configuration's; None where dvc.lock says that they come of these params.

    They are another's when params were set and the pipeline, or its last stages, were not run.
    """
    try:
        # every scalar stays text here: a YAML 1.1 reader of numbers and words would disagree with DVC's
        lock = _Lock.model_validate(yaml.load(files[LOCK], yaml.CBaseLoader))  # noqa: S506 (makes nothing but text)
    except KeyError:
        return f"no {LOCK}"
    except (yaml.YAMLError, RecursionError, ValueError):
        return f"its {LOCK} can't be read"
    for name, stage in lock.stages.items():
        for key, locked in stage.params.get(str(params_file.PATH), {}).items():
            if not _is_locked(lookup(params, key), locked):
                return f"its scores are not of its params: stage {name} ran with another {key}"
        for out in stage.outs:
            if out.path in files and out.md5 != hashlib.md5(files[out.path], usedforsecurity=False).hexdigest():
                return f"its {out.path} is not what stage {name} wrote"
        for dep in stage.deps:
            if (made := _made(dep.path, lock)) and made != dep.md5:
                return f"its scores are not of its params: stage {name} ran with another {dep.path} than was made"
    return None


def _made(path: str, lock: _Lock) -> str | None:
    """The md5 of a path as a stage made it; None where no stage did, or the cache does not tell what a folder held."""
    for out in (out for stage in lock.stages.values() for out in stage.outs):
        if out.path == path:
            return out.md5
        if out.md5 and Path(path).is_relative_to(out.path):
            held = _listing(out.md5)
            return held.get(str(Path(path).relative_to(out.path)))
    return None


def _listing(md5: str) -> dict[str, str]:
    """Files of a folder -> their md5; empty where the cache has no readable listing of it."""
    try:
        listed = _LISTING.validate_json((CACHE / md5[:2] / md5[2:]).read_bytes())
    except (OSError, ValidationError):
        return {}
    return {file.relpath: file.md5 for file in listed}


def _is_locked(value: Any, locked: Any) -> bool:
    """Whether a value is the one that dvc.lock has in text."""
    if isinstance(value, dict):
        same_keys = isinstance(locked, dict) and value.keys() == locked.keys()
        return same_keys and all(_is_locked(item, locked[key]) for key, item in value.items())
    if isinstance(value, list):
        return isinstance(locked, list) and len(value) == len(locked) and all(map(_is_locked, value, locked))
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(locked) == value
        except (TypeError, ValueError):
            return False
    words: dict[Any, tuple[str, ...]] = {None: ("null", "~", ""), True: ("true",), False: ("false",)}
    return locked in words.get(value, (value,))


def _read(commits: list[_Commit]) -> list[Snapshot]:
    """The FILES of each, by one git process."""
    prefix = _git("rev-parse", "--show-prefix").decode().strip()
    asked = [f"{commit.id}:{prefix}{path}" for commit in commits for path in FILES]
    contents = _contents(BytesIO(_git("cat-file", "--batch", given="\n".join(asked).encode())))
    snapshots = []
    for commit in commits:
        files = {path: content for path, content in zip(FILES, contents, strict=False) if content is not None}
        snapshots.append(Snapshot(commit.name, commit.source, commit.when, files))
    return snapshots


def _contents(answer: BytesIO) -> Iterator[bytes | None]:
    """git's answers one after the other: a line that ends in the size, and the content; or that there is none."""
    for line in answer:
        if line.endswith(b" missing\n"):
            yield None
        else:
            yield answer.read(int(line.rsplit(maxsplit=1)[1]))
            answer.readline()


def _git(*arguments: str, given: bytes = b"") -> bytes:
    try:
        answer = subprocess.run(["git", *arguments], input=given, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise UserError("git: not installed, so experiments can't be read; install it") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]}: {reason}; run this in the project's clone") from error
    return answer.stdout
