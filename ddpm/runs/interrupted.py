"""Whether a killed ``dvc exp run`` left git's HEAD on no branch, and the commands that put it back.

DVC takes HEAD off its branch twice in each experiment that runs in the working folder: while it stashes what differs
from the commit, and while it runs. It does not record the branch, but git's log of HEAD does.
"""

from __future__ import annotations

import re
import shlex
from itertools import zip_longest

import pygit2

from ddpm.runs.queue import NOTES, RUNNING, lives, read_note

LOCKS = NOTES / "rwlock"
BETWEEN = 60  # seconds between the two, at most
LEFT = re.compile(r"checkout: moving from (.+) to ([0-9a-f]{40})")


def way_back() -> str | None:
    """The commands that put HEAD back on the branch that a killed ``dvc exp run`` took it off, or None.

    A person or CI that checks out a commit leaves another trace. DVC stays at the commit and names it in full. Also,
    it either put HEAD back on the branch a moment before, or its lock still shows that it was at work.
    """
    try:
        repository = pygit2.Repository(".")
        noted = read_note(LOCKS).get("write")  # by DVC's experiments, alive or killed: name -> the process
        writers = noted if isinstance(noted, dict) else {}
        alive = lives(read_note(RUNNING), RUNNING) or any(lives(entry, LOCKS) for entry in writers.values())
        if not repository.head_is_detached or alive:
            return None
        log = list(repository.lookup_reference("HEAD").log())  # the newest first
    except (KeyError, pygit2.GitError):
        return None
    last = next((pair for pair in zip_longest(log, log[1:]) if pair[0].message.startswith("checkout: ")), None)
    checkout = last and LEFT.fullmatch(last[0].message)
    if not last or not checkout or not str(last[0].oid_old) == str(last[0].oid_new) == checkout[2]:
        return None
    name, here = checkout[1], last[0].oid_new
    branch = repository.branches.local.get(name)
    stashing = "workspace" in writers
    left, before = last
    restored = before and before.message == f"dvc: Restore HEAD to '{name}'"
    if branch is None or not (stashing or (restored and left.committer.time - before.committer.time <= BETWEEN)):
        return None
    steps = [f"`git checkout {shlex.quote(name)}` goes back to the branch"]
    if repository.head.target not in (here, branch.target):
        keeping = "`git branch kept` keeps the commits made since"
        steps = [keeping, *steps, "`git merge kept` adds them"]
    stash = repository.references.get("refs/stash")
    if stashing and stash and here in stash.peel(pygit2.Commit).parent_ids:
        steps.append("`git stash pop` brings back what was not committed")
    elif any(flags & pygit2.enums.FileStatus.WT_MODIFIED for flags in repository.status(untracked_files="no").values()):
        steps.append("what -S had set is still there: `git diff`")
    return "; ".join(steps)
