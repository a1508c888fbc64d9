"""One experiment in this process: the stages of dvc.yaml one after the other, in a folder of its own.

What several experiments need is kept by what it depends on, STAGE-DIGEST in the folder of all experiments, and linked
into each one's: data, reference and trained models are made once. The record is the last file to be written, so whoever
finds one need not run the experiment again.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.locks import lock
from ddpm.base.machine import die_with_parent
from ddpm.base.paths import METRICS, PROCESSED, RUN
from ddpm.params import config, file, inputs
from ddpm.runs import record, run_images
from ddpm.study.pool import BUSY, MODEL, PATIENCE, RECORD
from stages import __main__ as stages

DATA = ("download", "preprocess", "reference")
OWN = ("check", "sample", "evaluate")  # whose results no other experiment needs
LIBRARIES = ("torch", "diffusers", "denoising_diffusion_pytorch")  # whose versions say more of a program than its code


def run(folder: Path, code: Path, params: dict[str, Any], program: dict[str, Any] | None) -> int:
    """Run the experiment, if nobody has, and leave its record in its folder; returns an exit code. Raises UserError.

    folder: the experiment's, named by what it depends on. code: the folder that holds the code of a commit. params: of
    its params.yaml. program: another trainer's command, its files and costs, and the arm's name.
    """
    alone = folder.with_suffix(".lock")
    with lock(alone, PATIENCE) as mine:
        if mine is None:
            return BUSY
        if not (folder / RECORD).exists():
            _lay_out(folder, code, params)
            os.chdir(folder)
            # the first line of its log: a cluster that gave no GPU is noticed there
            print(f"on {stages.prepare(params['device'])}", flush=True)
            if failure := _program(params, program) if program else _train(params):
                return failure
        alone.unlink()
    return 0


def digest_code(params: dict[str, Any]) -> None:
    """Read the code of an experiment, which the working folder holds, for all that are forked from this process."""
    inputs.digest_code(_listed("train", params)[1])
    _md5s(params)


def _lay_out(folder: Path, code: Path, params: dict[str, Any]) -> None:
    """A new folder with the code and params.yaml, in place of what a killed process may have left."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / METRICS).mkdir(parents=True)
    for entry in code.iterdir():
        (folder / entry.name).symlink_to(os.path.relpath(entry, folder))
    (folder / file.PATH).write_text(file.encode(params), encoding="utf-8")


def _train(params: dict[str, Any]) -> int:
    for stage in ("check", *inputs.makers()):
        if code := stages.run_here(stage, films=False) if stage in OWN else _make(stage, params):
            return code
    record.write_record(record.read_record(RUN).model_copy(update={"code": _md5s(params)}), Path(RECORD))
    return 0


def _md5s(params: dict[str, Any]) -> dict[str, str]:
    """The code of all stages, as a record names it."""
    return {dep: _md5(dep)[:12] for stage in inputs.makers() for dep in _listed(stage, params)[1]}


def _program(params: dict[str, Any], program: dict[str, Any]) -> int:
    """Run another trainer and score what it drew."""
    for stage in ("check", *DATA):
        if code := stages.run_here(stage) if stage in OWN else _make(stage, params):
            return code
    samples, seed = run_images.PATH.absolute(), params["seed"]
    samples.parent.mkdir(parents=True)
    places = {split: str((PROCESSED / split / "images.npy").absolute()) for split in ("train", "test")}
    places |= {"seed": str(seed), "samples": str(samples)}
    begin = time.monotonic()
    if code := _call([part.format_map(places) for part in shlex.split(program["program"])]):
        return 1 if code == BUSY else code
    drawn, whole = files.open_array(samples, remedy="the program has to write it"), config.parse(params)
    if drawn.shape != (wanted := (whole.sample.count, *whole.data.shape)):
        raise UserError(f"its program wrote images of {drawn.shape}; allowed: {wanted}")
    costs = {**files.flatten(program["costs"]), "seconds.program": round(time.monotonic() - begin, 1)}

    from ddpm.tools import score

    run = score.score(samples, seed, program["arm"], {}, costs)
    versions = {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
    made_by = {"program": program["program"], "code": {path: files.md5(Path(path)) for path in program["files"]}}
    run = run.model_copy(update={**made_by, "environment": run.environment | versions})
    record.write_record(run, Path(RECORD))
    return 0


def _call(command: list[str]) -> int:
    """The exit code of a command, which ends, with all that it has started, when this process gets SIGTERM."""
    print(f"running: {shlex.join(command)}", flush=True)
    me = os.getpid()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lambda: die_with_parent(me),  # noqa: PLW1509
    )

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return process.wait()
    except SystemExit:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise


def _make(stage: str, params: dict[str, Any]) -> int | None:
    """Link what the stage makes into this folder, or make it here and keep it for others. Returns the exit code of a
    failed rank."""
    kept = Path.cwd().parent / f"{stage}-{depends_on(stage, params)[:16]}"
    if stage == "train":
        Path(MODEL).write_text(kept.name, encoding="utf-8")
    # a model that is being trained is worth coming back for; the data are everybody's first step
    with lock(kept.with_suffix(".lock"), PATIENCE if stage == "train" else math.inf) as mine:
        if mine is None:
            return BUSY
        if not kept.exists():
            if code := stages.run_here(stage):
                return code
            with atomic_path(kept) as temporary:
                for out in _outs(stage):
                    _link(Path(out), temporary / out)
            return None
        for out in _outs(stage):
            _link(kept / out, Path(out))
    return None


def _link(source: Path, target: Path) -> None:
    """The same file or folder under another name, as links where the disk has them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, copy_function=_link_file)
    else:
        _link_file(source, target)


def _link_file(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def depends_on(stage: str, params: dict[str, Any]) -> str:
    """Digest of what a stage's result follows from: the params, the code and the stages that dvc.yaml lists for it."""
    keys, deps = _listed(stage, params)
    code = {dep: _md5(dep) for dep in deps}
    before = [other for other in DATA if other != stage and set(_outs(other)) & set(inputs.stage(stage, params)[1])]
    values = {key: inputs.lookup(params, key) for key in keys}
    return files.digest([values, code, {other: depends_on(other, params) for other in before}])


@cache
def _md5(path: str) -> str:
    return files.md5(Path(path))


def _listed(stage: str, params: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The keys and the code that dvc.yaml lists for a stage."""
    keys, deps = inputs.stage(stage, params)
    return keys, [dep for dep in deps if inputs.is_code(dep)]


def _outs(stage: str) -> list[str]:
    """The files and folders that a stage makes."""
    listed = inputs.pipeline()[stage]
    outs = [out for kind in ("outs", "metrics", "plots") for out in listed.get(kind, [])]
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]
