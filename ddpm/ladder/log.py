"""A ladder's log: its lines, in the order in which every reader takes them.

ladders/NAME/log.jsonl only grows, and is in git. Each line has the digest of a line before it, so one that was changed,
removed or moved is noticed. Where two machines appended at the same time, git keeps both lines (``merge=union``): the
log then forks, and every reader puts the branches into the same order, that of their digests. Nothing that depends on
the order is written down: an attempt's number, the e-value that it needs and whether it is a rung follow from the
lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Literal

import pygit2
from pydantic import Field

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.sections import Section, Seed
from ddpm.ladder.terms import Contest
from ddpm.runs import library
from ddpm.runs.record import Amount, Count, Line, Name, Score, Values

LENGTH = 16  # digits of a digest
Key = Annotated[str, Field(pattern=f"^([0-9a-f]{{{LENGTH}}})?$")]
Outcome = Literal["accepted", "refused", "undecided"]
BASE = ""  # in place of a digest: of the rung before the first, and of the line before the first


class Try(Section):
    """An attempt begins, and its share of the error is spent."""

    before: Key = BASE  # the digest of a line before it
    terms: Key  # this and the next: ``Contest.identity``
    base: Key
    entry: Name
    changes: Values  # of the rung ``on``
    on: Key  # the champion
    number: Count
    cost: Amount
    challenges: Key | None = None  # the attempt that it repeats
    # the first of its consecutive seeds, drawn as it begins: seeds that can be known before it could be tried in
    # private; the first lines of the first ladders have none: ``Contest.seed`` is theirs
    seed: Seed | None = None
    # the e-value that it is run for; after a merge its place in the log may ask for another, which decides about a rung
    needed: Amount | None = None


class End(Section):
    """The attempt ``of`` has ended."""

    before: Key = BASE
    of: Key
    outcome: Outcome
    reason: Line
    champion: tuple[Score, ...]  # by seed; none of kind ``target``
    challenger: tuple[Score, ...]
    guards: dict[str, Score] = Field(default={})  # the challenger's means


def read(contest: Contest) -> dict[str, Try | End]:
    """The lines of a ladder's log by digest, in order. Raises UserError if it was changed by hand, or lacks lines that
    git has."""
    texts = _texts(contest)
    for revision, committed in _read_commits(contest):
        if not committed <= set(texts):
            raise UserError(
                f"{contest.log}: lacks lines that {revision} has: `git checkout HEAD -- {contest.log}` or `git pull`; "
                "an attempt that began stays"
            )
    lines, after = dict[str, Try | End](), dict[str, list[str]]({BASE: []})
    for number, text in enumerate(texts, 1):
        source, key = f"{contest.log}: line {number}", files.digest(text)[:LENGTH]
        try:
            value = json.loads(text)
            line = sections.parse(value, source, End) if "of" in value else sections.parse(value, source, Try)
        except (RecursionError, TypeError, ValueError) as error:
            raise UserError(f"{source}: not a line of a ladder's log: restore the file from git") from error
        if line.before not in after or (isinstance(line, End) and line.of not in lines):
            raise UserError(
                f"{source}: does not continue the lines before it: some were changed, removed or moved; restore the "
                "file from git"
            )
        if key not in lines:
            lines[key], after[key] = line, []
            after[line.before].append(key)
    ordered, waiting = dict[str, Try | End](), [BASE]
    while waiting:  # depth first: a branch is read to its end
        if (key := waiting.pop()) != BASE:
            ordered[key] = lines[key]
        waiting += sorted(after[key], reverse=True)
    return ordered


def append(contest: Contest, line: Try | End) -> None:
    """Write a line at the end."""
    text = json.dumps(line.model_dump(mode="json", exclude_defaults=True), allow_nan=False)
    with files.atomic_path(contest.log) as temporary:
        temporary.write_text("".join(f"{each}\n" for each in [*_texts(contest), text]), encoding="utf-8")


def _texts(contest: Contest) -> list[str]:
    return contest.log.read_text(encoding="utf-8").splitlines() if contest.log.exists() else []


def _read_commits(contest: Contest) -> Iterator[tuple[str, set[str]]]:
    """Name and lines of the log in the last commit, and in the upstream of its branch."""
    if pygit2.discover_repository(".") is None:
        return
    git = library.repository()
    commits = {} if git.head_is_unborn else {"HEAD": git.head}
    if commits and not git.head_is_detached and (upstream := git.branches.local[git.head.shorthand].upstream):
        commits[upstream.shorthand] = upstream
    for name, reference in commits.items():
        try:
            blob = reference.peel(pygit2.Commit).tree[str(library.below(git) / contest.log)]
        except KeyError:
            text = ""
        else:
            text = blob.data.decode() if isinstance(blob, pygit2.Blob) else ""
        yield name, set(text.splitlines())
