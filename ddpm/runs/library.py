"""Where records are found: the working folder, DVC's experiments, and folders of records.

An experiment of DVC is a commit under refs/exps, which holds metrics/run.json like any other file: one blob is read for
each, and DVC is not asked.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pygit2

from ddpm.base import files
from ddpm.base.errors import UserError, mask_secrets
from ddpm.base.paths import METRICS, MODEL_FILE, RUN, SAMPLES, SCORED
from ddpm.base.sections import Affects
from ddpm.params import inputs
from ddpm.params.config import Config, list_differing, parse, sections_affecting
from ddpm.params.inputs import Start
from ddpm.runs import record
from ddpm.runs.record import Provenance, Record
from ddpm.runs.rows import Rows

WORKSPACE = "workspace"
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # next to DVC's stashes and locks


class Listing(NamedTuple):
    """Records, oldest first, and a note on each file that is not one."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]


def everywhere(folders: Iterable[Path] = ()) -> Listing:
    """The records of all experiments of DVC, of the working folder, of SCORED and of other ``folders``.

    Raises UserError outside a repository, unless there are ``folders``, or if there is no such folder.
    """
    folders = [*folders]
    git = None if folders and pygit2.discover_repository(".") is None else repository()
    here = [(WORKSPACE, RUN)] if RUN.exists() else []
    listing = _listing([*(_experiments(git) if git else ()), *here], rename=True)
    others = [folder(path) for path in [*([SCORED] if SCORED.is_dir() else []), *folders]]
    return Listing(*(sum(parts, ()) for parts in zip(listing, *others, strict=True)))


def folder(path: Path) -> Listing:
    """The records in a folder's files of rows or, without those, in its .json files. Raises UserError if there is no
    such folder."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; name one that holds runs, such as metrics/studies/NAME")
    files_of_rows = [Rows(file) for file in sorted(path.glob("*.jsonl"))]
    if not files_of_rows:
        return _listing((str(file), file) for file in sorted(path.glob("*.json")))
    records = sorted((run for rows in files_of_rows for run in rows.records.values()), key=lambda run: run.finished)
    return Listing(tuple(records), tuple(f"left out: {why}" for rows in files_of_rows for why in rows.refused.values()))


def workspace() -> Record:
    """The working folder's record. Raises UserError."""
    return record.read_record(RUN).model_copy(update={"name": WORKSPACE})


def current(config: Config) -> Record:
    """The working folder's record. Raises UserError unless the checked-out params and code made it."""
    run = workspace()
    if why := why_stale(run, config.flat()):
        # a stage that ran again with other code and gave the same bytes ends the pipeline there: nothing scored again
        what = f"{METRICS}/ does not match the params and code that are checked out"
        raise UserError(f"{what}: {why}; run `dvc repro` or, if that has nothing to do, `dvc repro -s -f evaluate`")
    return run


def why_stale(run: Record, flat: Mapping[str, Any]) -> str:
    """Why a record is not of these params and of the code on disk; empty if it is. flat: ``Config.flat``."""
    params = relevant(flat)
    for key in list_differing(run.params, params):
        return f"{key} was {run.params.get(key)}, and is {params.get(key)} in params.yaml"
    if not run.code:
        return "the code that made it is not known"
    return next((f"{path} has changed since" for path in find_changes(run)), "")


def relevant(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The params that a record has: of the sections that a result depends on, without passwords."""
    params = sections_affecting(Affects.RESULT, flat).items()
    return {key: mask_secrets(value) if isinstance(value, str) else value for key, value in params}


def find_changes(run: Record, root: Path = Path()) -> list[str]:
    """The code of the run that is not what is in the folder ``root``."""
    here = ((path, root / path, md5) for path, md5 in sorted(run.code.items()))
    return [path for path, file, md5 in here if not file.exists() or files.md5(file)[: len(md5)] != md5]


def is_checked_out(run: Record) -> bool:
    """Whether the code of the run is known, and is what is on disk."""
    return bool(run.code) and not find_changes(run)


def repository() -> pygit2.Repository:
    """The one that holds the working folder. Raises UserError."""
    try:
        return pygit2.Repository(".")
    except pygit2.GitError as error:
        raise UserError(f"{Path.cwd()}: not a git repository ({error}); run this in the project's clone") from error


def below(git: pygit2.Repository) -> Path:
    """The project's folder, relative to its repository."""
    return Path.cwd().relative_to(Path(git.workdir).resolve())


def find_uncommitted(paths: Collection[str]) -> list[str]:
    """Which of these files, and files in these folders, are not what was committed last. Raises UserError for a path
    outside the project."""
    git, here = repository(), Path.cwd()
    root = Path(git.workdir).resolve()
    changed = (root / name for name, status in git.status().items() if status != pygit2.enums.FileStatus.IGNORED)
    wanted = {Path(path).parent.resolve() / Path(path).name for path in paths}
    if outside := [path for path in wanted if not path.is_relative_to(here)]:
        raise UserError(f"{outside[0]}: is not in {here}, where it could be committed: move it there")
    return [str(path.relative_to(here)) for path in changed if not wanted.isdisjoint({path, *path.parents})]


def _experiments(git: pygit2.Repository) -> Iterator[tuple[str, bytes]]:
    """Name and record of each experiment of DVC that has one."""
    path = str(below(git) / RUN)
    for reference in git.references.iterator():
        if match := EXPERIMENT.fullmatch(reference.name):
            tree = reference.peel(pygit2.Commit).tree
            if path in tree and isinstance(blob := tree[path], pygit2.Blob):
                yield match[1], blob.data


def _listing(contents: Iterable[tuple[str, bytes | Path]], rename: bool = False) -> Listing:
    """Every record that can be read; those with equal content count once, under the first name.

    contents: where each is from, and its bytes or its file. rename: whether that is also its name.
    """
    records: dict[tuple[str, datetime], Record] = {}
    notes = []
    for source, text in contents:
        try:
            run = record.read_record(text) if isinstance(text, Path) else record.parse_record(text, source)
            run = run.model_copy(update={"name": source}) if rename else run
        except UserError as error:
            notes.append(f"left out: {error}")
            continue
        records.setdefault((run.result, run.finished), run)
    return Listing(tuple(sorted(records.values(), key=lambda run: run.finished)), tuple(notes))


def provenance(start: Start) -> Provenance:
    """The params of the run and its code: of the stages before this one as dvc.lock recorded them when they ran.

    The code is left out if dvc.lock is of another model or other samples than those that are here, because stages were
    run by hand.
    """
    params = relevant(parse(start.params).flat())
    for stage, made in {"train": MODEL_FILE, "sample": SAMPLES}.items():
        outs = {out["path"]: out.get("md5") for out in inputs.read_lock(stage)[0].get("outs", [])}
        if outs.get(str(made)) != files.md5(made):
            return Provenance(params, {})
    md5s = {dep: files.md5(Path(dep)) for dep in inputs.list_code(start.params, start.stage)}
    for stage in [name for name in inputs.makers() if name != start.stage]:
        entry, _ = inputs.read_lock(stage)
        md5s |= {dep["path"]: dep["md5"] for dep in entry.get("deps", []) if inputs.is_code(dep["path"])}
    return Provenance(params, {path: md5[:12] for path, md5 in md5s.items()})
