"""One experiment in this process: the stages of dvc.yaml one after the other, in a folder of its own.

What several experiments need is kept by what it depends on, STAGE-DIGEST in the folder of all experiments, and linked
into each one's: data, reference and trained models are made once. The row is written last, so whoever finds one need
not run the experiment again.
"""

import importlib.util
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from ddpm.base import files
from ddpm.base.errors import Diverged, UserError, printable
from ddpm.base.locks import lock
from ddpm.base.machine import die_with_parent, exit_at_sigterm
from ddpm.base.paths import METRICS, MODEL_FILE, PROCESSED, RUN
from ddpm.params import config, file, inputs
from ddpm.pictures import grids
from ddpm.programs import worktree
from ddpm.programs.program import PLACE
from ddpm.runs import library, record, rows, run_images
from ddpm.sources import fetch
from stages import __main__ as stages

DATA = ("download", "preprocess", "reference")
LIBRARIES = ("torch", "diffusers", "denoising_diffusion_pytorch")  # whose versions say more of a program than its code
BUSY = 75  # exit code: another process runs the experiment, or trains its model
PATIENCE = 1.0  # seconds, before asking again
SHOWN = 16  # images in a grid
Place = Callable[[str | Path, str | Path], object]
md5 = cache(files.md5)  # the code is the same for all that are forked from one process


def run(task: dict[str, Any]) -> dict[str, Any] | None:
    """Run the experiment, if nobody has, and append its row; or return its record's values, if it has no file of rows.
    Raises UserError, and SystemExit with the code of a stage that failed.

    task: the fields of ``pool.Task``; folder: the experiment's, named by what it depends on; code: the folder with the
    code of a commit.
    """
    folder, kept, done = Path(task["folder"]), task["rows"] and Path(task["rows"]), None
    with ExitStack() as locks:
        for path in locks_of(task):
            if locks.enter_context(lock(path, PATIENCE)) is None:
                sys.exit(BUSY)
            locks.callback(path.unlink, missing_ok=True)  # while it is held; a study would leave hundreds
        if not kept or not rows.has(kept, task["about"]["name"]):
            _lay_out(folder, Path(task["code"]), task["params"])
            os.chdir(folder)
            # the first line of its log: a cluster that gave no GPU is noticed there
            processor = stages.prepare(task["params"]["device"])
            print(f"on {processor}", flush=True)
            _run("check")
            for stage in DATA:
                _make(stage, task["params"], shutil.copy2 if task["program"] else _link)  # it may write to what it gets
            done = _program(task["params"], task["program"]) if task["program"] else _train(task, processor)
            if not done.get("diverged"):
                _keep(task)
            if kept:
                rows.append(kept, done | task["about"])
        shutil.rmtree(folder, ignore_errors=True)
    return None if kept else done


def _keep(task: dict[str, Any]) -> None:
    """Keep what the task wants of the run: a strip of its images, squares of these and of real ones, and the model."""
    if task["picture"]:
        grids.save_strip(files.open_array(run_images.PATH), Path(task["picture"]))
    if task["keep"]:
        for name, path in (("grid", run_images.PATH), ("real", PROCESSED / "test/images.npy")):
            grids.save_grid(files.open_array(path)[:SHOWN], Path(task["keep"], f"{name}.png"))
    if task["keep"] and task["keep_model"]:
        with files.atomic_path(Path(task["keep"], MODEL_FILE.name)) as temporary:
            shutil.copy2(MODEL_FILE, temporary)


def locks_of(task: dict[str, Any]) -> list[Path]:
    """The files whose locks are held by whoever runs the task: of its folder, and of its row, for all machines that
    share that."""
    shared = [rows.lock_path(Path(task["rows"]), task["about"]["name"])] if task["rows"] else []
    return [Path(task["folder"]).with_suffix(".lock"), *shared]


def read_code(params: dict[str, Any]) -> str:
    """Read the code of an experiment, which the working folder holds, for all that are forked from this process.
    Returns the name of the folder that keeps its model; empty if a file is missing, which the experiment reports."""
    try:
        inputs.digest_code(inputs.list_code(params, "train"))
        _md5s(params)
        return _folder_name("train", params)
    except (OSError, UserError):
        return ""


def _lay_out(folder: Path, code: Path, params: dict[str, Any]) -> None:
    """A new folder with the code and params.yaml, in place of what a killed process may have left."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / METRICS).mkdir(parents=True)
    for entry in code.iterdir():
        (folder / entry.name).symlink_to(os.path.relpath(entry, folder))
    (folder / file.PATH).write_text(file.encode(params), encoding="utf-8")


def _train(task: dict[str, Any], processor: str) -> dict[str, Any]:
    """The values of its record. Of a training that diverges, they are those that are known before it is scored."""
    params = task["params"]
    try:
        _make("train", params, _link)
    except Diverged as error:
        if not task["may_diverge"]:
            raise
        diverged = record.Record(
            name=task["name"],
            seed=params["seed"],
            finished=record.now(),
            params=library.relevant(config.parse(params).flat()),
            code=_md5s(params),
            fingerprint=record.Fingerprint.of({}),
            scores={},
            environment={"processor": processor},
            diverged=printable(str(error))[: record.LONGEST],
        )
        return diverged.model_dump(mode="json")
    _run("sample")
    _run("evaluate")
    values: dict[str, Any] = files.read_json(RUN)
    curve = values.pop("curve", None)
    if curve and len(curve["columns"]["images"]) > 1:  # without snapshots it is the scores again
        values["curve"] = curve
    return values | {"code": _md5s(params)}


def _run(stage: str) -> None:
    if code := stages.run_here(stage, films=False):
        sys.exit(code)


def _md5s(params: dict[str, Any]) -> dict[str, str]:
    """The code of all stages, as a record names it."""
    return {dep: md5(Path(dep))[:12] for dep in inputs.list_code(params)}


def _program(params: dict[str, Any], program: dict[str, Any]) -> dict[str, Any]:
    """Run another trainer and score what it drew; return the values of its record."""
    samples, seed = run_images.PATH.absolute(), params["seed"]
    samples.parent.mkdir(parents=True)
    places = {split: str((PROCESSED / split / "images.npy").absolute()) for split in ("train", "test")}
    places |= {"seed": str(seed), "samples": str(samples)}
    begin = time.monotonic()
    if code := _call([PLACE.sub(lambda place: places[place[1]], word) for word in shlex.split(program["program"])]):
        sys.exit(1 if code == BUSY else code)
    drawn, whole = files.open_array(samples, remedy="the program has to write it"), config.parse(params)
    if drawn.shape != (wanted := (whole.sample.count, *whole.data.shape)):
        raise UserError(f"its program wrote images of {drawn.shape}; allowed: {wanted}")
    costs = {**files.flatten(program["costs"]), "seconds.program": round(time.monotonic() - begin, 1)}

    from ddpm.tools import score

    run = score.score(samples, seed, program["arm"], {}, costs)
    versions = {name: metadata.version(name) for name in LIBRARIES if importlib.util.find_spec(name)}
    made_by = {"program": program["program"], "code": {path: files.md5(Path(path)) for path in program["files"]}}
    return run.model_dump(mode="json") | made_by | {"environment": run.environment | versions}


def _call(command: list[str]) -> int:
    """The exit code of a command. What it has started ends with it, or when this process gets SIGTERM."""
    print(f"running: {shlex.join(command)}", flush=True)
    exit_at_sigterm()
    mark, dies = {worktree.MARK: str(Path.cwd())}, partial(die_with_parent, os.getpid())
    try:
        return subprocess.call(command, stdin=subprocess.DEVNULL, env=os.environ | mark, preexec_fn=dies)
    finally:
        worktree.kill(Path.cwd())


def _make(stage: str, params: dict[str, Any], place: Place) -> None:
    """Put what the stage makes into this folder, by ``place``, or make it here and keep it for others. Raises UserError
    if what is kept is not what it was."""
    kept = Path.cwd().parent / _folder_name(stage, params)
    # a model that is being trained is worth coming back for; the data are everybody's first step
    with lock(kept.with_suffix(".lock"), PATIENCE if stage == "train" else math.inf) as mine:
        if mine is None:
            sys.exit(BUSY)
        digest = kept.with_suffix(".sha256")
        if kept.exists() and digest.exists():
            if digest.read_text(encoding="utf-8") != files.sha256(kept):
                why = "changed since it was made, and every experiment would get it"
                raise UserError(f"{kept}: {why}: find out what writes there; `ddpm study clean` removes it")
            shutil.copytree(kept, Path(), copy_function=place, dirs_exist_ok=True)
        else:
            _run(stage)
            with files.atomic_path(kept) as temporary:
                for out in map(Path, inputs.list_outs(stage)):
                    (temporary / out).parent.mkdir(parents=True, exist_ok=True)
                    if out.is_dir():
                        shutil.copytree(out, temporary / out, copy_function=place)
                    else:
                        place(out, temporary / out)
                files.write_text(digest, files.sha256(temporary))


def _link(source: str | Path, target: str | Path) -> None:
    """A file under another name, as a link where the disk has them."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _folder_name(stage: str, params: dict[str, Any]) -> str:
    """The name of the folder that keeps a stage's result, by what that follows from: the params, the code and the
    stages that dvc.yaml lists for it, and the images on this machine."""
    keys, deps = inputs.stage(stage, params)
    values = {key: inputs.lookup(params, key) for key in keys}
    if stage == "download":
        values["images"] = _list_images(inputs.lookup(params, "data.source"))
    code = {dep: md5(Path(dep)) for dep in deps if inputs.is_code(dep)}
    before = [_folder_name(other, params) for other in inputs.list_before(stage, params)]
    return f"{stage}-{files.digest([values, code, before])[:16]}"


@cache
def _list_images(source: str | None) -> list[tuple[str, int, int]]:
    """The name, size and time of each file in a folder, or of an archive; none of what is published or fetched. Raises
    UserError if there is no such place."""
    if source is None or source.startswith(fetch.ADDRESSES):
        return []
    place = fetch.locate(source, None, (), Path())
    inside = files.below(place) if place.is_dir() else {"": place}
    return [(name, (at := inside[name].stat()).st_size, at.st_mtime_ns) for name in sorted(inside)]
