"""A ladder's log: its lines, and which of them may not be missing.

ladders/NAME/log.jsonl only grows, and is in git. Each line has the digest of the one before it, so a line that was
changed, removed or moved is noticed. Two clones that both append get a conflict: the log continues from one of them.
What can be computed is not written down: an attempt's number, its cost, its seeds and the e-value that it needs.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
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
Outcome = Literal["accepted", "refused", "undecided", "withdrawn"]
BASE = ""  # in place of a digest: of the rung before the first, and of the line before the first
REF = "refs/ddpm/ladders/"  # NAME: what was appended here, where `git clean`, `stash`, `reset` and `amend` leave it
# up to these lines, logs of ddpm's own ladders have attempts without a nonce
OLDER = frozenset({
    "42f9278433175469", "8f640d5c409b46d3", "62a4e1df2ee42f4b", "e59c7826f64e18b0", "91ed58f4dd8053ee",
    "2d112baf120d513d", "ac4032e02315d91b",
})  # fmt: skip


class Try(Section):
    """An attempt begins, and its share of the error is spent."""

    before: Key = BASE  # the digest of the line before it
    terms: Key  # this and the next: ``Contest.identity``
    base: Key
    entry: Name
    changes: Values  # of the rung ``on``
    on: Key  # the champion
    evidence: Literal["pairs", "ranks"] = "pairs"  # what decides it
    long: bool = False  # whether it tries what the attempt before it accepted, at the ladder's longer training
    # drawn as the attempt begins: its seeds follow from the digest of the line, and otherwise somebody could run them
    # in private first
    nonce: Key = ""
    # of OLDER lines
    number: Count | None = None
    cost: Amount = 0.0
    seed: Seed | None = None
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
    texts, lines, before = _texts(contest), dict[str, Try | End](), BASE
    for name, there in _read_git(contest):
        if texts[: len(there)] != there:
            raise UserError(
                f"{contest.log}: does not begin with the lines of {name}, and an attempt that began stays: `git pull`, "
                f"or `git show {name} > {contest.log}`"
            )
    for number, text in enumerate(texts, 1):
        source = f"{contest.log}: line {number}"
        try:
            value = json.loads(text)
            line = sections.parse(value, source, End) if "of" in value else sections.parse(value, source, Try)
        except (RecursionError, TypeError, ValueError) as error:
            raise UserError(
                f"{source}: not a line of a ladder's log: restore the file from git; of a conflict, keep one side"
            ) from error
        if line.before != before:
            raise UserError(
                f"{source}: does not continue the line before it: some were changed, removed or moved, or two clones "
                "tried at the same time: restore the file from git, or keep the lines of one"
            )
        before = files.digest(text)[:LENGTH]
        lines[before] = line
    older = max((number for number, key in enumerate(lines, 1) if key in OLDER), default=0)
    for number, line in enumerate(lines.values(), 1):
        if number > older and isinstance(line, Try) and (not line.nonce or line.seed is not None):
            raise UserError(f"{contest.log}: line {number}: chooses its seeds; `ddpm ladder try` draws them by a nonce")
    return lines


def append(contest: Contest, line: Try | End) -> None:
    """Write a line at the end, and keep a copy of the log in git."""
    text = json.dumps(line.model_dump(mode="json", exclude_defaults=True), allow_nan=False)
    whole = "".join(f"{each}\n" for each in [*_texts(contest), text])
    files.write_text(contest.log, whole)
    if pygit2.discover_repository(".") is not None:
        git = library.repository()
        git.references.create(REF + contest.name, git.create_blob(whole.encode()), force=True)


def _texts(contest: Contest) -> list[str]:
    return contest.log.read_text(encoding="utf-8").splitlines() if contest.log.exists() else []


def _read_git(contest: Contest) -> Iterator[tuple[str, list[str]]]:
    """The log in the last commit, in the upstream of its branch, and as it was appended to here: what ``git show``
    calls it, and its lines."""
    if pygit2.discover_repository(".") is None:
        return
    git, public = library.repository(), list[list[str]]()
    path = library.below(git) / contest.log
    for name in ("HEAD", "@{upstream}"):
        with suppress(KeyError, pygit2.GitError):  # without a commit, a branch, or the file in it
            public.append(git.revparse_single(f"{name}:{path}").peel(pygit2.Blob).data.decode().splitlines())
            yield f"{name}:./{contest.log}", public[-1]
    if own := git.references.get(REF + contest.name):
        kept = git[own.target].peel(pygit2.Blob).data.decode().splitlines()
        # lines that contradict the public ones lost to another clone, which was faster
        if all(kept[: len(there)] == there[: len(kept)] for there in public):
            yield own.name, kept
