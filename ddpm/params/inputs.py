"""What a stage of dvc.yaml reads, as DVC sees it: its params' values and its dependencies' contents.

DVC records params and dependencies as they are after a command has run (treeverse/dvc#11058). So a stage reads them
once, at the start, and checks at the end that nothing changed. The digest of params and data, ``Start.fingerprint``,
names the resume state and the MLflow run.
"""

import ast
import re
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.params import file

DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
CODE = ("ddpm", "stages")


class Start(NamedTuple):
    """The state in which a stage was started. All its processes use this, and MLflow records it.

    params: all of params.yaml, as plain values. keys: those that dvc.yaml lists for the stage, with their values.
    digests: the sha256 of each dependency. films: whether those of the samples are drawn, which no experiment keeps.
    """

    stage: str
    params: dict[str, Any]
    keys: dict[str, Any]
    digests: dict[str, str]
    films: bool = True

    def fingerprint(self) -> str:
        """Digest of the params and data: of all that the result is meant to follow from, whatever code computes it."""
        return files.digest([self.keys, {path: value for path, value in self.digests.items() if not is_code(path)}])

    def code(self) -> dict[str, str]:
        """A digest of each file of code, which comments and blanks leave as it is."""
        return digest_code(dep for dep in self.digests if is_code(dep))

    def refuse_changes(self) -> None:
        """Raises UserError if an input of the stage has changed since: DVC would credit the result to inputs that did
        not make it."""
        params = file.read_params()
        before = files.flatten(self.keys)
        now = files.flatten({key: lookup(params, key) for key in self.keys})
        for key in sorted(before.keys() | now.keys()):
            # as text, because 1, 1.0 and True are equal
            was, is_now = (repr(values[key]) if key in values else "absent" for values in (before, now))
            if was != is_now:
                raise UserError(
                    f"{file.PATH}: {key} was {variant.shorten(was)} when the {self.stage} stage started and is "
                    f"{variant.shorten(is_now)} now; run `dvc repro` again"
                )
        self._check_files(self.digests)

    def refuse_other_code(self) -> None:
        """For a rank that has just loaded the code. Raises UserError if the code has changed since the launcher read
        it. ``refuse_changes`` would miss an edit that is undone before the end."""
        self._check_files({path: digest for path, digest in self.digests.items() if is_code(path)})

    def _check_files(self, digests: dict[str, str]) -> None:
        for name, digest in digests.items():
            if not (path := Path(name)).exists() or files.sha256(path) != digest:
                raise UserError(f"{name}: changed while the {self.stage} stage ran; run `dvc repro` again")


def pipeline(dvc_yaml: Path = DVC_YAML) -> dict[str, Any]:
    """The stages in dvc.yaml, by name."""
    return _stages(dvc_yaml.read_text(encoding="utf-8"))


def makers(dvc_yaml: Path = DVC_YAML) -> list[str]:
    """The stages that a result is made by, in their order: all but the check."""
    return [name for name in pipeline(dvc_yaml) if name != "check"]


@lru_cache(maxsize=1)
def _stages(text: str) -> dict[str, Any]:
    stages: dict[str, Any] = yaml.safe_load(text)["stages"]
    return stages


def stage(name: str, params: dict[str, Any], dvc_yaml: Path = DVC_YAML) -> tuple[list[str], list[str]]:
    """The params keys and dependency paths that dvc.yaml lists for the stage, with ``${...}`` filled in."""
    listed = pipeline(dvc_yaml)[name]
    # a mapping in the list is ``params.yaml:``, the whole file
    keys = [key for entry in listed.get("params", []) for key in ([entry] if isinstance(entry, str) else params)]
    deps = [re.sub(r"\$\{([\w.]+)\}", lambda key: str(lookup(params, key[1])), dep) for dep in listed.get("deps", [])]
    return keys, deps


def list_outs(name: str) -> list[str]:
    """The files and folders that dvc.yaml lists as made by the stage."""
    outs = [out for kind in ("outs", "metrics", "plots") for out in pipeline()[name].get(kind, [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def list_before(name: str, params: dict[str, Any]) -> list[str]:
    """The stages whose outputs are dependencies of the stage."""
    deps = {*stage(name, params)[1]}
    return [other for other in makers() if deps & {*list_outs(other)}]


def list_code(params: dict[str, Any], *stages: str, dvc_yaml: Path = DVC_YAML) -> list[str]:
    """The code that dvc.yaml lists for the stages, by default for all that a result is made by."""
    return [dep for name in stages or makers(dvc_yaml) for dep in stage(name, params, dvc_yaml)[1] if is_code(dep)]


def read_lock(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """dvc.lock's entry for the stage, and the params' values in it; both empty if dvc.lock is absent, half-written, or
    does not have the stage."""
    try:
        entry = file.decode(DVC_LOCK.read_text(encoding="utf-8"), str(DVC_LOCK))["stages"][name]
        return entry, entry.get("params", {}).get(str(file.PATH), {})
    except (AttributeError, FileNotFoundError, LookupError, TypeError, UserError):
        return {}, {}


def on_record(name: str, params: dict[str, Any]) -> bool:
    """Whether the stage last ran with these params (all of params.yaml), by dvc.lock."""
    entry, locked = read_lock(name)
    return bool(entry) and all(lookup(params, key) == value for key, value in locked.items())


def read_inputs(name: str, params: dict[str, Any]) -> Start:
    """Digest the inputs of a stage. params: the content of params.yaml. Raises UserError if a dependency is missing."""
    keys, deps = stage(name, params)
    if missing := [dep for dep in deps if not Path(dep).exists()]:
        raise UserError(f"{missing[0]}: no such file; {name} needs it: run `dvc repro`")
    digests = {dep: files.sha256(Path(dep)) for dep in deps}
    return Start(name, params, {key: lookup(params, key) for key in keys}, digests)


def digest_code(deps: Iterable[str]) -> dict[str, str]:
    """``Start.code`` of these files and folders of Python."""
    folders = (files.below(Path(dep)).values() if Path(dep).is_dir() else [Path(dep)] for dep in deps)
    return {str(path): _syntax(path.read_bytes()) for paths in folders for path in paths}


@cache  # for the processes of experiments, which are forked from one that has seen the code
def _syntax(code: bytes) -> str:
    return files.digest(ast.dump(ast.parse(code)))


def is_code(path: str) -> bool:
    """Whether a dependency's path is of the project's code."""
    return path.partition("/")[0] in CODE


def lookup(params: dict[str, Any], key: str) -> Any:
    """The value at ``section.field``; None if it is not set."""
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
