"""What made the run that the evaluate stage is about to score."""

from pathlib import Path

from ddpm.base import files
from ddpm.base.paths import MODEL_FILE, SAMPLES
from ddpm.params import config, inputs
from ddpm.params.inputs import Start
from ddpm.runs import library
from ddpm.runs.record import Provenance


def of(start: Start) -> Provenance:
    """The params of the run and its code: of the stages before this one as dvc.lock recorded them when they ran.

    The code is left out if dvc.lock is of another model or other samples than those that are here, because stages were
    run by hand.
    """
    flat = config.parse(start.params).flat()
    params = library.relevant(flat)
    for stage, made in {"train": MODEL_FILE, "sample": SAMPLES}.items():
        outs = {out["path"]: out.get("md5") for out in inputs.read_lock(stage)[0].get("outs", [])}
        if outs.get(str(made)) != files.md5(made):
            return Provenance(params, {})
    md5s = {dep: files.md5(Path(dep)) for dep in inputs.list_code(start.params, start.stage)}
    for stage in [name for name in inputs.makers() if name != start.stage]:
        entry, _ = inputs.read_lock(stage)
        md5s |= {dep["path"]: dep["md5"] for dep in entry.get("deps", []) if inputs.is_code(dep["path"])}
    return Provenance(params, {path: md5[:12] for path, md5 in md5s.items()})
