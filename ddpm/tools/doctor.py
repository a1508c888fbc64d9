"""What this machine and this folder have of the pipeline's needs. Nothing is downloaded, written or fixed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from typing import Literal, NamedTuple

from ddpm.base.errors import UserError, masked, printable
from ddpm.base.paths import PROCESSED, RAW, REFERENCE
from ddpm.data.data_params import Data
from ddpm.params import config, file
from ddpm.params.config import Config
from ddpm.params.inputs import lookup, recorded, spelled
from ddpm.runs import library
from ddpm.sources import fetch

State = Literal["ok", "note", "fetch", "missing"]

NEEDED = ("dvc", "torch", "torch_fidelity", "mlflow")  # packages, without which nothing more can be looked at
WRITTEN = (".git", ".dvc/tmp", ".ddpm", "data", "data/*", "metrics")  # folders
SHOWN = ("torch", "torchvision", "dvc", "mlflow", "torch-fidelity")
GIB = 2**30


class Finding(NamedTuple):
    """state: ok; note: the pipeline runs without it; fetch: `dvc repro` will download it; missing: it cannot run.
    fix: how to get what is missing."""

    topic: str
    state: State
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """All findings, in the order in which things are needed. Whatever cannot be checked because something else is
    missing is left out."""
    findings = [packages(), *programs(), *folder()]
    if any(util.find_spec(name) is None for name in NEEDED):
        return findings
    findings += [repository(), branch()]
    try:
        checked = config.load()
    except UserError as error:
        return [*findings, Finding("params", "missing", "not usable", str(error))]
    for part in (device, mlflow, dataset, weights):
        try:
            findings += part(checked)
        except UserError as error:
            findings.append(Finding(part.__name__, "missing", "not usable", str(error)))
    return findings


def lacking(findings: Sequence[Finding], offline: bool = False) -> list[Finding]:
    """The findings to fix first; ``offline``: also what would be downloaded."""
    return [finding for finding in findings if finding.state == "missing" or (offline and finding.state == "fetch")]


def listing(findings: Sequence[Finding], offline: bool = False) -> str:
    """A line for each finding, the fix below it, and a last line that sums up."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8} {finding.topic:12} {printable(finding.detail)}")
        if finding.fix:
            lines.append(f"{'':21} -> {printable(finding.fix)}")
    topics = dict.fromkeys(finding.topic for finding in lacking(findings, offline))
    return "\n".join([*lines, "", f"missing: {', '.join(topics)}" if topics else "nothing is missing"])


def packages() -> Finding:
    """Whether the requirements of pyproject.toml are installed in versions that it allows, as `pip check` reports."""
    said = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False).stdout
    if wrong := [line for line in said.splitlines() if line.startswith("ddpm ")]:
        return Finding("packages", "missing", "; ".join(wrong), "`make setup`")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
    return Finding("packages", "ok", f"python {platform.python_version()}, {versions}")


def programs() -> Iterator[Finding]:
    """The programs that are called by name. Stages run by `python`, and need the environment that is looked at here."""
    setup = "`make setup`, then `source .venv/bin/activate`"
    for name, fix in {"git": "install git", "python": setup, "dvc": setup}.items():
        path = shutil.which(name)
        if not path:
            yield Finding(name, "missing", "not in PATH", fix)
        elif name in ("python", "dvc") and not Path(path).parent.samefile(Path(sys.executable).parent):
            yield Finding(name, "missing", f"{path} comes first in PATH, and is not of {sys.prefix}", setup)
        else:
            yield Finding(name, "ok", path)


def folder() -> Iterator[Finding]:
    """Whether this folder's files can be written, and git takes it for this user's."""
    written = [Path(), *(path for name in WRITTEN for path in sorted(Path().glob(name)))]
    if locked := [str(path) for path in written if not os.access(path, os.W_OK)]:
        fix = "if another user made them, such as root in a container: `sudo chown -R $USER .`"
        yield Finding("folder", "missing", f"{', '.join(locked)} cannot be written", fix)
    yield Finding("disk", "ok", f"{shutil.disk_usage(os.environ.get('DVC_ROOT', '.')).free / GIB:,.1f} GiB free")
    english = {**os.environ, "LC_ALL": "C"}
    status = shutil.which("git") and subprocess.run(["git", "status"], capture_output=True, check=False, env=english)
    if status and b"dubious ownership" in status.stderr:
        allow = f"if you trust it: `git config --global --add safe.directory {Path.cwd()}`"
        yield Finding("folder", "missing", "git refuses it, because it belongs to another user", allow)


def repository() -> Finding:
    """Whether the working folder is in a git and DVC repository with files that DVC can read, and
    a cache that it can use.

    DVC writes dvc.lock and its rwlock in place: a kill at that moment leaves half a file, and no command starts then.
    """
    here = Path.cwd()
    absent = [name for name in (".git", ".dvc") if not any((at / name).exists() for at in (here, *here.parents))]
    if absent:
        return Finding("repository", "missing", f"no {' and no '.join(absent)} here or above", "run in the clone")
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        with Repo(str(here)) as repo:
            _ = repo.index.stages
            locks = Path(repo.tmp_dir or "", "rwlock")
            cache = Path(repo.cache.local.path)
        there = next(path for path in (cache, *cache.parents) if path.exists())  # DVC makes the rest
        if not os.access(there, os.R_OK | os.W_OK):
            fix = "is its disk mounted? `dvc cache dir --local PATH` moves it"
            return Finding("repository", "missing", f"DVC's cache {cache} cannot be read and written", fix)
        json.loads(locks.read_text() if locks.exists() else "{}")
        return Finding("repository", "ok", str(here))
    except (DvcException, SCMError) as error:
        reason, torn = str(error).rstrip("."), "dvc.lock" if "dvc.lock" in str(error) else ""
    except ValueError:
        torn = os.path.relpath(locks, here)
        reason = f"'{torn}' is no JSON"
    fix = f"half-written, as by a kill: `rm {torn}`, then `dvc repro`, whose cache has all that was computed"
    return Finding("repository", "missing", reason, fix if torn else "see `dvc status`")


def branch() -> Finding:
    """Whether git's HEAD is on a branch. DVC takes it off while an experiment runs, and a kill leaves it there."""
    lost = False
    with suppress(UserError):  # no repository, as the finding before says
        lost = library.repository().head_is_detached
    if not lost:
        return Finding("branch", "ok", "git's HEAD is on a branch")
    back = "`git checkout -` goes back to the branch before; if `git stash list` names DVC, `git stash pop` too"
    return Finding("branch", "note", "git's HEAD is on no branch: `dvc exp run` runs, or was killed", back)


def device(checked: Config) -> Iterator[Finding]:
    """The device that params.yaml selects, its memory, the number of processes on it, and the network's size."""
    import torch

    from ddpm.compute import devices, distributed
    from ddpm.model import build

    processor = devices.resolve(checked.device)
    count = distributed.processes(checked.launch.processes, checked.device)
    free = devices.free_memory(processor) / GIB
    ranks = f"{count} process{'es' * (count > 1)}"
    yield Finding("device", "ok", f"{devices.describe(processor)}, {ranks}, {free:.1f} GiB of memory free")
    if processor.type == "cpu" and checked.device == "auto" and shutil.which("nvidia-smi"):
        cuda = torch.version.cuda
        shown = f"a GPU's driver, and torch {f'for CUDA {cuda}, which it does not run' if cuda else 'without CUDA'}"
        update = "update the driver, or install torch for the CUDA that `nvidia-smi` names"
        yield Finding("device", "note", shown, update if cuda else "install a CUDA build of torch")
    yield Finding("model", "ok", f"{checked.model.name} with {build.parameters(checked):,} parameters")


def mlflow(checked: Config) -> Iterator[Finding]:
    """Whether MLflow's store answers. Without it, runs are kept in files."""
    from ddpm.tracking.store import Store

    store = Store(strict=True)
    if store.off:
        yield Finding("mlflow", "note", "switched off by DDPM_TRACKING", "unset it to record runs")
        return
    try:
        if not store.absent:
            store.attempt(lambda: store.client)
        yield Finding("mlflow", "ok", f"{masked(store.uri)}{', which the first run makes' * store.absent}")
    except UserError as error:
        yield Finding("mlflow", "note", str(error), "`ddpm track sync` logs later what was run")


def dataset(checked: Config) -> Iterator[Finding]:
    """The images: processed already, or where they will come from."""
    from ddpm.data.processed import MANIFEST, read_manifest

    if fetched() and (PROCESSED / MANIFEST).exists():
        manifest, data = read_manifest(PROCESSED), checked.data
        if (manifest.dataset, manifest.shape) == (data.dataset.name, data.shape):
            shown = f"{manifest.dataset} {manifest.shape.sides}x{manifest.channels}, {manifest.counted()} images"
            yield Finding("dataset", "ok", f"{PROCESSED}: {shown}")
            return
    yield source(checked.data)


def fetched() -> bool:
    """Whether the images here are from the dataset and source that params.yaml names, according to dvc.lock."""
    params, (_, locked) = file.read(), recorded("download")
    keys = ("data.dataset", "data.source")
    return RAW.exists() and all(key in locked and spelled(lookup(params, key)) == spelled(locked[key]) for key in keys)


def source(data: Data) -> Finding:
    """Where ``data.source`` leads. Raises UserError if it leads nowhere."""
    name, where = data.dataset.name, fetch.origin(data.dataset, data.source)
    if not where:
        return Finding("dataset", "ok", f"{name} comes with a package")
    if where.startswith(fetch.ADDRESSES):
        by_hand = "without a network: put its files into a folder, and set data.source to that"
        return Finding("dataset", "fetch", f"{name} from {masked(where)}", by_hand)
    return Finding("dataset", "ok", f"{name} in {where}")


def weights(checked: Config) -> Iterator[Finding]:
    """The published weights of extractors: here, or to be downloaded."""
    from ddpm.scoring import extractor
    from ddpm.scoring.evaluate_params import AUTO
    from ddpm.scoring.reference import WEIGHTS

    for name in checked.evaluate.extractors:
        published = None if name == AUTO else extractor.get(name).published
        if published is None or (REFERENCE / name / WEIGHTS).exists():
            continue
        if not published.cached.exists():
            state: State = "missing" if published.package else "fetch"
            yield Finding("weights", state, f"{name}: {published.url}", published.remedy)
        elif not published.intact:
            yield Finding("weights", "missing", f"{name}: {published.cached} is damaged", published.remedy)
        else:
            yield Finding("weights", "ok", f"{name}: {published.cached}")
