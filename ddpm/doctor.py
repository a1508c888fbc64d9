"""What this machine and this folder have of the pipeline's needs. Nothing is downloaded, written or fixed."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Literal, NamedTuple

from ddpm.base.errors import UserError, masked, printable
from ddpm.base.paths import PROCESSED, RAW, REFERENCE
from ddpm.data.data_params import Data
from ddpm.params import config, file
from ddpm.params.config import Config
from ddpm.params.inputs import lookup, recorded, spelled
from ddpm.runs import interrupted
from ddpm.sources import fetch

State = Literal["ok", "note", "fetch", "missing"]

NEEDED = ("dvc", "torch", "torch_fidelity", "mlflow")  # packages, without which nothing more can be looked at
WRITTEN = (".git", ".dvc/tmp", ".ddpm", "data", "data/*", "metrics")  # folders
AHEAD = 120  # seconds that another machine's clock may be ahead of this one's
PORT = 5000  # of `make ui`
SHOWN = ("torch", "torchvision", "dvc", "mlflow", "torch-fidelity")
GIB = 2**30


class Finding(NamedTuple):
    """state: ok; note: the pipeline runs without it; fetch: `dvc repro` will download it; missing: it cannot run.
    fix: how to get what is missing."""

    topic: str
    state: State
    found: str
    fix: str = ""


def examine() -> list[Finding]:
    """All findings, in the order in which things are needed. Whatever cannot be checked because something else is
    missing is left out."""
    findings = [packages(), *programs(), *folder()]
    if any(util.find_spec(name) is None for name in NEEDED):
        return findings
    findings += torch_starts()
    if findings[-1].state == "missing":
        return findings
    findings += [repository(), branch()]
    try:
        settings = config.load()
    except UserError as error:
        return [*findings, Finding("params", "missing", "not usable", str(error))]
    for part in (device, model, trainings, mlflow, ui, dataset, weights):
        try:
            findings += part(settings)
        except UserError as error:
            findings.append(Finding(part.__name__, "missing", "not usable", str(error)))
    return findings


def lacking(findings: Sequence[Finding], offline: bool = False) -> list[Finding]:
    """The findings to fix first; ``offline``: also what would be downloaded."""
    return [found for found in findings if found.state == "missing" or (offline and found.state == "fetch")]


def listing(findings: Sequence[Finding], offline: bool = False) -> str:
    """A line for each finding, the fix below it, and a last line that sums up."""
    lines = []
    for found in findings:
        lines.append(f"{found.state:8} {found.topic:12} {printable(found.found)}")
        if found.fix:
            lines.append(f"{'':21} -> {printable(found.fix)}")
    topics = dict.fromkeys(found.topic for found in lacking(findings, offline))
    return "\n".join([*lines, "", f"missing: {', '.join(topics)}" if topics else "nothing is missing"])


def packages() -> Finding:
    """Whether the requirements of pyproject.toml are installed in versions that it allows, as `pip check` reports."""
    if util.find_spec("pip") is None:
        return Finding("packages", "note", "not checked, for want of pip", "`python -m ensurepip`")
    said = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True, check=False).stdout
    if wrong := [line for line in said.splitlines() if line.startswith("ddpm ")]:
        return Finding("packages", "missing", "; ".join(wrong), "`make setup`")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
    return Finding("packages", "ok", f"python {platform.python_version()}, {versions}")


def programs() -> Iterator[Finding]:
    """The programs that are called by name. Stages run by `python`, and need the environment that is looked at here."""
    setup = "`make setup`, then `source .venv/bin/activate`"
    by_hand = "install make for the two commands, or run `dvc repro` itself"
    status, english = ["git", "status"], {**os.environ, "LC_ALL": "C"}
    for name, fix in {"git": "install git", "python": setup, "dvc": setup, "make": by_hand}.items():
        path = shutil.which(name)
        own = path and Path(path).parent.samefile(Path(sys.executable).parent)
        if not path:
            yield Finding(name, "note" if name == "make" else "missing", "not in PATH", fix)
        elif (
            name == "git"
            and b"dubious ownership" in subprocess.run(status, capture_output=True, check=False, env=english).stderr
        ):
            allow = f"if you trust it: `git config --global --add safe.directory {Path.cwd()}`"
            yield Finding(name, "missing", "refuses this folder, because it belongs to another user", allow)
        elif name in ("python", "dvc") and not own:
            yield Finding(name, "missing", f"{path} comes first in PATH, and is not of {sys.prefix}", setup)
        else:
            yield Finding(name, "ok", path)


def folder() -> Iterator[Finding]:
    """Whether this folder's files can be written, are run by their own code, and are not from the future."""
    written = [Path(), *(path for name in WRITTEN for path in sorted(Path().glob(name)))]
    if locked := [str(path) for path in written if not os.access(path, os.W_OK)]:
        fix = "if another user made them, such as root in a container: `sudo chown -R $USER .`"
        yield Finding("folder", "missing", f"{', '.join(locked)} cannot be written", fix)
    code = Path(__file__).parent
    if Path("ddpm/doctor.py").exists() and not code.samefile("ddpm"):
        shown = f"the command ddpm runs {code}, and stages run the code that is here"
        yield Finding("folder", "note", shown, "`make setup` here, then `source .venv/bin/activate`")
    ahead = max((path.lstat().st_mtime for path in Path().glob("*")), default=0) - time.time()
    if ahead > AHEAD:
        shown = f"a file is {ahead / 60:,.0f} minutes from the future"
        yield Finding("folder", "note", shown, "set this machine's clock")


def torch_starts() -> Iterator[Finding]:
    """Whether torch starts at all, tried in another process: one whose instructions this CPU lacks is killed."""
    done = subprocess.run(
        [sys.executable, "-c", "import torch, torchvision"], capture_output=True, text=True, check=False
    )
    if done.returncode < 0:
        killed = f"killed by {signal.Signals(-done.returncode).name} when it is imported"
        yield Finding("torch", "missing", killed, "this build needs another CPU: install another version of torch")
    elif done.returncode:
        said = (done.stderr.strip().splitlines() or ["it cannot be imported"])[-1]
        yield Finding("torch", "missing", said, "torch and torchvision must fit: `make setup`")
    else:
        yield Finding("torch", "ok", "starts")


def repository(here: Path | None = None) -> Finding:
    """Whether a folder (by default the working folder) is in a git and DVC repository with files that DVC can read, and
    a cache that it can use.

    DVC writes dvc.lock and its rwlock in place: a kill at that moment leaves half a file, and no command starts then.
    """
    here = here or Path.cwd()
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
        found, torn = str(error).rstrip("."), "dvc.lock" if "dvc.lock" in str(error) else ""
    except ValueError:
        torn = os.path.relpath(locks, here)
        found = f"'{torn}' is no JSON"
    fix = f"half-written, as by a kill: `rm {torn}`, then `dvc repro`, whose cache has all that was computed"
    return Finding("repository", "missing", found, fix if torn else "see `dvc status`")


def branch() -> Finding:
    """Whether git's HEAD is on a branch, or is off it for a good reason, such as in CI."""
    if way := interrupted.way_back():
        return Finding("branch", "missing", "git's HEAD is on no branch since `dvc exp run` was killed", way)
    return Finding("branch", "ok", "no killed `dvc exp run` has taken git's HEAD off one")


def device(settings: Config) -> Iterator[Finding]:
    """The device that params.yaml selects, its memory, the number of processes on it, and the precision."""
    import torch

    from ddpm.compute import devices, distributed

    chosen = devices.resolve(settings.device)
    count = distributed.processes(settings.launch.processes, settings.device)
    free = devices.free_memory(chosen) / GIB
    ranks = f"{count} process{'es' * (count > 1)}"
    yield Finding("device", "ok", f"{devices.describe(chosen)}, {ranks}, {free:.1f} GiB of memory free")
    if chosen.type == "cpu" and settings.device == "auto" and shutil.which("nvidia-smi"):
        cuda = torch.version.cuda
        shown = f"a GPU's driver, and torch {f'for CUDA {cuda}, which it does not run' if cuda else 'without CUDA'}"
        update = "update the driver, or install torch for the CUDA that `nvidia-smi` names"
        yield Finding("device", "note", shown, update if cuda else "install a CUDA build of torch")
    best = devices.precision("auto", chosen)
    for section, choice in (("train", settings.train.precision), ("sample", settings.sample.precision)):
        slow = choice == "bfloat16" and best != torch.bfloat16
        fix = "this device has no bfloat16: set auto, or float32" if slow else ""
        shown = str(devices.precision(choice, chosen)).removeprefix("torch.")
        yield Finding("precision", "note" if slow else "ok", f"{section}.precision: {choice} is {shown} here", fix)


def model(settings: Config) -> Iterator[Finding]:
    """The network's size, and the room on the disk."""
    from ddpm.model import build

    parameters = build.parameters(settings)
    yield Finding("model", "ok", f"{settings.model.name} with {parameters:,} parameters")
    free = shutil.disk_usage(os.environ.get("DVC_ROOT", ".")).free
    yield Finding("disk", "ok", f"{free / GIB:,.1f} GiB free")


def trainings(settings: Config) -> Iterator[Finding]:
    """Stopped trainings, and the space that their checkpoints take."""
    from ddpm.training import checkpoints

    if states := list(checkpoints.root().glob("*")):
        size = sum(path.stat().st_size for state in states for path in state.rglob("*") if path.is_file())
        shown = f"{len(states)} stopped or running, {size / GIB:,.2f} GiB in {checkpoints.root()}"
        fix = f"each goes on when its experiment runs again; to give all up: `rm -r {checkpoints.root()}`"
        yield Finding("trainings", "note", shown, fix)


def mlflow(settings: Config) -> Iterator[Finding]:
    """Whether MLflow's store answers. Without it, runs are kept in files."""
    from ddpm.tracking.store import Store

    store = Store()
    store.strict = True  # it raises, and waits no longer than a stage would
    where = masked(store.uri)
    if store.off:
        yield Finding("mlflow", "note", "switched off by DDPM_TRACKING", "unset it to record runs")
    elif store.absent:
        yield Finding("mlflow", "ok", f"{where}, which the first run makes")
    else:
        try:
            runs = store.attempt(store.runs) or []
            yield Finding("mlflow", "ok", f"{where}: {len(runs)} runs of {store.experiment_name}")
        except UserError as error:
            later = "`ddpm track sync` logs later what was run"
            upgrade = f"made by another version of MLflow: copy it, then `mlflow db upgrade {where}`; {later}"
            yield Finding("mlflow", "note", str(error), upgrade if "db upgrade" in str(error) else later)


def ui(settings: Config) -> Iterator[Finding]:
    """Whether something listens where `make ui` would."""
    with socket.socket() as tried:
        tried.settimeout(1)
        if tried.connect_ex(("127.0.0.1", PORT)) == 0:
            shown = f"port {PORT} is in use, by `make ui` or by another program"
            yield Finding("ui", "note", shown, f"if by another: `make ui PORT={PORT + 1}`")


def dataset(settings: Config) -> Iterator[Finding]:
    """The images: processed already, or where they will come from."""
    from ddpm.data.processed import MANIFEST, read_manifest

    data = settings.data
    if (PROCESSED / MANIFEST).exists():
        made = read_manifest(PROCESSED)
        shown = f"{made.dataset} {made.shape.sides}x{made.channels}"
        same = (made.dataset, made.shape) == (data.dataset.name, data.shape)
        if same and fetched():
            yield Finding("dataset", "ok", f"{PROCESSED}: {shown}, {made.counted()} images")
            return
        shown += ", from another data.source" * same
        yield Finding("dataset", "note", f"{PROCESSED} holds {shown}", "`dvc repro` makes that of params.yaml")
    yield source(data)


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


def weights(settings: Config) -> Iterator[Finding]:
    """The extractors' weights: in data/reference/, made or shipped, or to be downloaded."""
    from ddpm.scoring import extractor
    from ddpm.scoring.evaluate_params import AUTO
    from ddpm.scoring.reference import WEIGHTS

    for name in settings.evaluate.extractors:
        published = None if name == AUTO else extractor.get(name).published
        kept = REFERENCE / name / WEIGHTS
        if kept.exists():
            yield Finding("weights", "ok", f"{name}: {kept}")
        elif published is None:
            yield Finding("weights", "ok", f"{name}: made by the reference stage, nothing to download")
        elif not published.cached.exists():
            fix = f"without a network: put the file at {published.cached}"
            yield Finding("weights", "fetch", f"{name}: {published.url}", fix)
        elif not published.intact:
            fix = "remove it, or put the published file there"
            yield Finding("weights", "missing", f"{name}: {published.cached} is damaged", fix)
        else:
            yield Finding("weights", "ok", f"{name}: {published.cached}")
