"""A judgement published: verdict.json for programs, verdict.md and its pictures for people."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ddpm.base.files import atomic_path, write_json
from ddpm.report import judgement as shown
from ddpm.report import render
from ddpm.report.blocks import Block, Figure
from ddpm.study.experiments import Study
from ddpm.verdicts.comparison import Judgement


def write(judgement: Judgement, folder: Path, samples: Sequence[Block]) -> list[Path]:
    """Write the files into the folder; return the paths of the two texts. samples: a picture of each arm's."""
    for_programs, for_people = folder / "verdict.json", folder / "verdict.md"
    page = render.markdown(shown.chapters(judgement, samples), folder)
    with atomic_path(for_people) as temporary:
        temporary.write_text(f"# {judgement.question}\n\n{page}{shown.bibtex(judgement)}")
    write_json(for_programs, shown.to_dict(judgement))
    return [for_programs, for_people]


def pictures(study: Study) -> list[Block]:
    """What the first run of each arm drew, where it is kept."""
    paths = {arm: study.results / f"{arm}.png" for arm in study.plan.arms}
    return [Figure(arm, partial(shutil.copyfile, path), arm) for arm, path in paths.items() if path.exists()]
