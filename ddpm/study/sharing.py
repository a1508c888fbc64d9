"""A study's results between machines: experiments through git, and what DVC cached for them through its remote.

``dvc push --run-cache`` sends the record of which inputs gave which results, but not the contents of outputs that DVC
does not cache in the workspace, such as metrics/: elsewhere the stages would run again. Here these are sent too.
"""

from __future__ import annotations

from pathlib import Path

from ddpm.base.errors import UserError, reason
from ddpm.study import results
from ddpm.study.plan import Study
from ddpm.study.slots import git

ORIGIN = "origin"


def push(study: Study, found: list[results.Result], remote: str = ORIGIN) -> list[str]:
    """Send experiments, and what DVC cached if it has a remote; return the names of those that were not there.

    Raises UserError if a remote is gone or refuses, or has another experiment of that name: nothing is overwritten.
    """
    here = {results.reference(result.base, result.name): result.commit for result in found}
    there = _listed(remote)
    _refuse_others(here, there, remote)
    new = {ref: commit for ref, commit in here.items() if ref not in there}
    if new:
        transfer(send=True)  # first, so that no experiment points to data that is not there
        git("push", "--quiet", remote, *(f"{commit}:{ref}" for ref, commit in new.items()))
        # another machine may have been faster; git and dvc do not always say so
        _refuse_others(here, _listed(remote), remote, complete=True)
    return [ref.rpartition("/")[2] for ref in new]


def pull(study: Study, remote: str = ORIGIN) -> list[str]:
    """Fetch the study's experiments that other machines pushed; return the names of those that were not here.

    Raises UserError if a remote is gone, or an experiment has different content there and here; the others are fetched.
    """
    names = {experiment.name for experiment in study.lines()}
    there = {ref: commit for ref, commit in _listed(remote).items() if ref.rpartition("/")[2] in names}
    here = {results.reference(result.base, result.name): result.commit for result in results.recorded(study)[0]}
    new = [ref for ref in there if ref not in here]
    if new:
        git("fetch", "--quiet", "--no-tags", remote, *(f"{ref}:{ref}" for ref in new))
        transfer(send=False)
    _refuse_others(here, there, remote)
    return [ref.rpartition("/")[2] for ref in new]


def transfer(send: bool) -> None:
    """Send all entries of DVC's run cache, with the contents they name, to its remote, or fetch them; without a remote,
    do nothing. Raises UserError if the remote fails."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo() as repo:
        if "remote" not in repo.config["core"]:
            return
        try:
            with repo.lock:
                if not send:
                    repo.stage_cache.pull(None)
                entries = Path(repo.stage_cache.cache_dir).glob("*/*/*")
                contents = repo.stage_cache.get_used_objs([(path.parent.name, path.name) for path in entries])
                for odb, objects in contents.items():
                    (repo.cloud.push if send else repo.cloud.pull)(objects, odb=odb)
                if send:
                    repo.stage_cache.push(None)
        except (DvcException, OSError) as error:
            name = repo.config["core"]["remote"]
            why = reason(error, str(repo.config["remote"].get(name, {}).get("url", "")))
            raise UserError(f"DVC's remote {name}: {why}; `dvc remote list` says where it is") from error


def _listed(remote: str) -> dict[str, str]:
    """Reference -> commit of every experiment there."""
    lines = git("ls-remote", remote, "refs/exps/*").splitlines()
    return {ref: commit for commit, ref in (line.split("\t") for line in lines)}


def _refuse_others(here: dict[str, str], there: dict[str, str], remote: str, complete: bool = False) -> None:
    """Raises UserError if the same experiment is another commit there, or is not there although it was sent."""
    if other := [ref for ref, commit in here.items() if there.get(ref, None if complete else commit) != commit]:
        name = other[0].rpartition("/")[2]
        raise UserError(
            f"{remote}: {len(other)} experiments have other content there than here, such as {name}: keep one of them: "
            f"`dvc exp remove {name}` here and `ddpm study pull`, or `dvc exp remove -g {remote} {name}` there and push"
        )
