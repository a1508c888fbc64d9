"""Models to share, by ``ddpm export``: the model file with a card.

card.md has the card's text; the front matter is for the Hugging Face Hub. Scores, data and licence are known only if
the working folder's model is the exported one.
"""

import shutil
from pathlib import Path

import torch
import yaml

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path, sha256
from ddpm.base.paths import MODEL_FILE, PROCESSED
from ddpm.data.processed import MANIFEST, read_manifest
from ddpm.model.model_file import Loaded, load_model
from ddpm.params import config
from ddpm.params.config import Config
from ddpm.referee import metrics
from ddpm.report import render, summary
from ddpm.report.blocks import Chapter
from ddpm.runs import library
from ddpm.runs.record import Record
from ddpm.sampling import classes
from ddpm.sources.dataset import name_images
from ddpm.tracking import view


def export_model(source: Path, out: Path) -> None:
    """Write the folder ``out``: the model file ``source`` as it is, and its card, README.md.
    Every command takes the folder for ``--model``.

    Raises UserError, and writes nothing, if ``source`` is not a model file, or ``out`` exists.
    """
    out = out.resolve()
    if out.exists():
        raise UserError(f"{out}: already exists: remove it, or choose another name with --out")
    model = load_model(source, torch.device("cpu"))
    with atomic_path(out) as folder:
        folder.mkdir()
        shutil.copyfile(source, folder / MODEL_FILE.name)
        (folder / "README.md").write_text(render_card(source, model, out.name), encoding="utf-8")


def render_card(source: Path, model: Loaded, folder: str) -> str:
    """The card as Markdown. source: the model file; folder: the name of the export."""
    try:
        (working, run), reason = find_facts(source, model), ""
    except UserError as error:
        working, run, reason = None, None, str(error)
    T, tags = model.config.diffusion.T, view.origin() if run else {}
    return render.fill(
        "ddpm.sharing",
        "card.md",
        model=model,
        folder=folder,
        sha256=sha256(source),
        parameters=sum(parameter.numel() for parameter in model.network.parameters()),
        classes=[render.escape(name) for name in classes.read_names(model)[0]],
        steps=max(steps for steps in range(1, min(T, 50) + 1) if T % steps == 0),
        params=yaml.safe_dump(model.written, sort_keys=False),
        working=working,
        run=run,
        reason=reason,
        data=name_images(working.data.dataset.name, working.data.source) if working else "",
        images=read_manifest(PROCESSED) if run and (PROCESSED / MANIFEST).exists() else None,
        scores=render.markdown([Chapter("", summary.scores(run))]) if run else "",
        closeness=metrics.closeness(run.scores) if run else [],
        commit=tags.get(view.COMMIT),
        changed=tags.get(view.DIRTY) == "true",
    )


def find_facts(source: Path, model: Loaded) -> tuple[Config, Record]:
    """The params and the record of the model in the working folder. Raises UserError with the reason if it knows
    nothing."""
    checked = config.load()
    if checked.training().to_dict() != model.written:
        raise UserError("params.yaml is another model's")
    if not MODEL_FILE.exists() or sha256(MODEL_FILE) != sha256(source):
        raise UserError(f"{MODEL_FILE} is another model")
    if checked.sample.ema_length is not None:
        raise UserError(f"the scores here are of another average, with sample.ema_length {checked.sample.ema_length:g}")
    return checked, library.current(checked)
