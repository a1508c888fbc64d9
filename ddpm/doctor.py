"""What this machine and this folder have of what the pipeline needs. Nothing is downloaded, written or mended."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from ddpm import config
from ddpm.config import Config
from ddpm.datasets import Dataset, _sources
from ddpm.errors import UserError, masked, printable

State = Literal["ok", "note", "fetch", "missing"]

SHOWN = ("torch", "torchvision", "dvc", "mlflow", "torch-fidelity")
RAW, PROCESSED, REFERENCE = Path("data/raw"), Path("data/processed"), Path("data/reference")
GIB = 2**30
BY_HAND = "without a network: put its files into a folder, and set data.source to that"
CHECKPOINTS = 3  # two generations and the one that is being written
TENSORS = 4  # float32 numbers that a checkpoint holds of each weight: itself, its average, Adam's two moments


class Finding(NamedTuple):
    """state: ok; note, the pipeline runs without it; fetch, `dvc repro` will download it; missing, it cannot run.
    mend: how to get what is not there."""

    topic: str
    state: State
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """All that is looked at, in the order in which it is needed. What cannot be looked at for want of something else
    is left out."""
    findings = [packages(), *programs(), repository()]
    if any(util.find_spec(name) is None for name in ("torch", "torch_fidelity", "mlflow")):
        return findings
    try:
        settings = config.load()
    except UserError as error:
        return [*findings, Finding("params", "missing", "not usable", str(error))]
    return [*findings, *hardware(settings), *model_and_disk(settings), store(), *dataset(settings), *weights(settings)]


def lacking(findings: Iterable[Finding], offline: bool = False) -> list[Finding]:
    """What has to be got first; without a network also what would be downloaded."""
    return [found for found in findings if found.state == "missing" or (offline and found.state == "fetch")]


def listing(findings: Iterable[Finding], offline: bool = False) -> str:
    """A line for each finding, how to mend it below, and a last line that sums up."""
    findings = list(findings)
    lines = []
    for found in findings:
        lines.append(f"{found.state:8} {found.topic:12} {printable(found.found)}")
        if found.mend:
            lines.append(f"{'':21} -> {printable(found.mend)}")
    topics = dict.fromkeys(found.topic for found in lacking(findings, offline))
    return "\n".join([*lines, "", f"missing: {', '.join(topics)}" if topics else "nothing is missing"])


def packages() -> Finding:
    """Whether what pyproject.toml asks for is installed, in a version that it allows."""
    wrong = []
    for text in metadata.requires("ddpm") or ():
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    if wrong:
        return Finding("packages", "missing", ", ".join(wrong), "`make setup`")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
    return Finding("packages", "ok", f"python {platform.python_version()}, {versions}")


def programs() -> Iterator[Finding]:
    """What is called by name: git and dvc; make is a convenience; ffmpeg comes with a package."""
    states: dict[str, tuple[State, str]] = {
        "git": ("missing", "install git"),
        "dvc": ("missing", "`make setup`, and put .venv/bin into PATH"),
        "make": ("note", "install make for the two commands, or run `dvc repro` itself"),
    }
    for name, (state, mend) in states.items():
        path = shutil.which(name)
        yield Finding(name, "ok", path) if path else Finding(name, state, "not in PATH", mend)
    import imageio_ffmpeg

    try:
        yield Finding("ffmpeg", "ok", imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        yield Finding("ffmpeg", "missing", str(error), "pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE")


def repository() -> Finding:
    """Whether the working folder lies in a repository of git and of DVC."""
    here = Path.cwd()
    absent = [name for name in (".git", ".dvc") if not any((at / name).exists() for at in (here, *here.parents))]
    if absent:
        return Finding("repository", "missing", f"no {' and no '.join(absent)} here or above", "run in the clone")
    return Finding("repository", "ok", str(here))


def hardware(settings: Config) -> Iterator[Finding]:
    """The device that params.yaml takes, its memory, on how many processes it runs, and in which precision."""
    import torch

    from ddpm import devices, distributed

    try:
        device = devices.resolve(settings.device)
        count = distributed.processes(settings.launch.processes, settings.device)
    except UserError as error:
        yield Finding("device", "missing", f"{torch.cuda.device_count()} GPUs seen", str(error))
        return
    free = devices.free_memory(device) / GIB
    ranks = f"{count} process{'es' * (count > 1)}"
    yield Finding("device", "ok", f"{devices.describe(device)}, {ranks}, {free:.1f} GiB of memory free")
    if device.type == "cpu" and torch.version.cuda is None and shutil.which("nvidia-smi"):
        yield Finding("device", "note", "a GPU's driver, and torch without CUDA", "install a CUDA build of torch")
    best = devices.precision("auto", device)
    for section, choice in (("train", settings.train.precision), ("sample", settings.sample.precision)):
        dtype = devices.precision(choice, device)
        shown = f"{section}.precision: {choice} is {_name(dtype)} here"
        if dtype == torch.bfloat16 != best:
            yield Finding("precision", "note", shown, "this device has no bfloat16: set auto, or float32")
        else:
            yield Finding("precision", "ok", shown)


def _name(dtype: object) -> str:
    return str(dtype).removeprefix("torch.")


def model_and_disk(settings: Config) -> Iterator[Finding]:
    """The network's size, and whether the disk has room for what one run writes and DVC's cache keeps."""
    from ddpm import models

    try:
        parameters = sum(parameter.numel() for parameter in models.outline(settings).parameters())
    except UserError as error:
        yield Finding("model", "missing", settings.model.name, str(error))
        return
    yield Finding("model", "ok", f"{settings.model.name} with {parameters:,} parameters")
    data, sample = settings.data, settings.sample
    images = sample.count * len(sample.seeds) * data.channels * data.image_size**2
    needed = 4 * parameters * (2 + CHECKPOINTS * TENSORS) + 2 * images  # 2: of each out the cache has a copy
    free = shutil.disk_usage(os.environ.get("DVC_ROOT", ".")).free
    shown = f"{free / GIB:,.1f} GiB free, a run takes about {needed / GIB:,.2f} GiB beside its dataset"
    if free < needed:
        yield Finding("disk", "missing", shown, "make room, or move the cache: `dvc cache dir PATH`")
    else:
        yield Finding("disk", "ok", shown)


def store() -> Finding:
    """Whether MLflow's store answers. Runs are kept in files without it."""
    from ddpm import tracking

    tracker = tracking.Tracker()
    where = masked(tracker.uri)
    if tracker.off:
        return Finding("mlflow", "note", "switched off by DDPM_TRACKING", "unset it to record runs")
    if tracker.uri.startswith(tracking.SQLITE) and not Path(tracker.uri.removeprefix(tracking.SQLITE)).exists():
        return Finding("mlflow", "ok", f"{where}, which the first run makes")
    runs = tracker.attempt(tracker.logged)
    if runs is None:
        return Finding("mlflow", "note", f"{where} does not answer", "later, `ddpm track sync` logs what was run")
    return Finding("mlflow", "ok", f"{where}: {len(runs)} runs of {tracker.experiment_name}")


def dataset(settings: Config) -> Iterator[Finding]:
    """The images: processed, raw, or where they are to come from."""
    from ddpm.processed import MANIFEST, SPLITS, read_manifest

    data = settings.data
    wanted = (data.dataset.name, data.image_size, data.channels)
    if (PROCESSED / MANIFEST).exists():
        try:
            made = read_manifest(PROCESSED)
        except UserError as error:
            yield Finding("dataset", "note", "not readable", str(error))
        else:
            shown = f"{made.dataset} {made.image_size}x{made.image_size}x{made.channels}"
            counts = ", ".join(f"{made.counts[split]:,} {split}" for split in SPLITS)
            if (made.dataset, made.image_size, made.channels) == wanted:
                yield Finding("dataset", "ok", f"{PROCESSED}: {shown}, {counts} images")
                return
            yield Finding("dataset", "note", f"{PROCESSED} holds {shown}", "`dvc repro` makes that of params.yaml")
    yield source(settings)


def source(settings: Config) -> Finding:
    """Where ``data.source`` leads."""
    data, name = settings.data, settings.data.dataset.name
    if data.source is None:
        return _default_source(data.dataset)
    if data.source.startswith("kaggle:") and util.find_spec("kagglehub") is None:
        return Finding("dataset", "missing", f"{data.source} needs kagglehub", "pip install 'ddpm[kaggle]'")
    if data.source.startswith(("kaggle:", "http://", "https://")):
        return Finding("dataset", "fetch", f"{name} from {masked(data.source)}", BY_HAND)
    try:
        found = _sources.locate(data.source, None, (), RAW)
    except UserError as error:
        return Finding("dataset", "missing", f"{name} is not there", str(error))
    return Finding("dataset", "ok", f"{name} in {found}")


def _default_source(dataset: Dataset) -> Finding:
    """Datasets without a public address have the attribute empty; those that need none lack it."""
    address = getattr(dataset, "address", "")
    if address is None:
        return Finding("dataset", "missing", f"{dataset.name} has no public address", "set data.source to a folder")
    if not address:
        return Finding("dataset", "ok", f"{dataset.name} comes with a package")
    return Finding("dataset", "fetch", f"{dataset.name} from {address}", BY_HAND)


def weights(settings: Config) -> Iterator[Finding]:
    """Of the extractors that params.yaml names: in data/reference/, shipped, or to be downloaded."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    from ddpm import extractors, files
    from ddpm.extractors.inception import SHA256, Inception
    from ddpm.reference import INDEX, WEIGHTS, read_reference

    for name in settings.evaluate.extractors:
        kept = REFERENCE / name / WEIGHTS
        if (REFERENCE / INDEX).exists() and kept.exists():
            digest = read_reference(REFERENCE).extractors.get(name, {}).get(WEIGHTS)
            if digest == files.sha256(kept):
                yield Finding("weights", "ok", f"{name}: {kept}")
                continue
        if not isinstance(extractors.get(name), Inception):
            yield Finding("weights", "ok", f"{name}: made by the reference stage, nothing to download")
            continue
        cached = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
        if not cached.exists():
            yield Finding(
                "weights", "fetch", f"{name}: {URL_INCEPTION_V3}", f"without a network: put the file at {cached}"
            )
        elif files.sha256(cached) != SHA256:
            yield Finding(
                "weights", "missing", f"{name}: {cached} is damaged", "remove it, or put the published file there"
            )
        else:
            yield Finding("weights", "ok", f"{name}: {cached}")
