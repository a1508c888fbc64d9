"""Files to start from: that of a new ladder, with a space to search, and the params file of a champion."""

import json
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ddpm.arms.run import apply_overrides
from ddpm.base.errors import UserError
from ddpm.base.files import write_text
from ddpm.ladder.climb import Climb
from ddpm.ladder.terms import LADDERS
from ddpm.params import config, possible, presets
from ddpm.params.config import Config
from ddpm.scoring import extractor, limits, metric
from ddpm.scoring.evaluate_params import AUTO, FEWEST_IMAGES, choose_extractor
from ddpm.study import loading
from ddpm.study.plan import check_name
from ddpm.tools import clone
from ddpm.tools.clone import Found

WARMUPS = (0.0, 0.03, 0.1)  # shares of the training
EYES, MEASURES = ("random_conv", "components"), ("prc", "c2st")  # of each new ladder
AVERAGES = (0.01, 0.05, 0.2)  # lengths of the weights' average, as shares of the training


def write(name: str, base: str, common: Mapping[str, Any]) -> Path:
    """Write ladders/NAME.yaml for a preset with the values of ``common``; return its path. Raises UserError if the file
    exists, or the preset cannot be the base of a ladder, because ``data.source`` has too few images, for example."""
    from ddpm.model import build  # it imports torch

    path = LADDERS / f"{name}.yaml"
    check_name(path, "ladder", LADDERS)
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or edit it")
    params = apply_overrides(presets.read(base), common, "--set")
    whole = config.parse(params, "--set")
    found, steps = clone.look(whole.data), whole.train.steps or 1
    if found.line:
        print(found.line, file=sys.stderr)
    measures = _choose_measures(whole, found)
    whole = config.parse(apply_overrides(params, measures, "--set"), "--set")
    possible.check_scores(whole, found.train, found.classes)
    build.outline(whole)
    values = {
        "path": path,
        "name": name,
        "base": base,
        "common": json.dumps({**common, **measures}),
        "primary": loading.headline(whole, path),
        "warmups": [round(share * steps) for share in WARMUPS],
        "averages": [round(1 - 1 / max(2.0, share * steps), 5) for share in AVERAGES],
    }
    text = resources.files("ddpm.ladder").joinpath("new.yaml").read_text(encoding="utf-8")
    write_text(path, Template(text).substitute(values))
    return path


def _choose_measures(whole: Config, found: Found) -> dict[str, Any]:
    """The preset's eyes and ``EYES``, and the metrics for which the images are enough. Where ``auto`` stands for an
    extractor that learns classes, or the preset names one, and there are none, it is another."""
    classes, count = found.classes, whole.sample.count if found.train is None else min(whole.sample.count, found.train)
    evaluate = whole.evaluate if classes is None else whole.evaluate.resolve(classes, whole.data.channels)
    named = evaluate.extractors
    if classes is not None and classes < 2 and any(extractor.get(name).knows_classes for name in named):
        named = (choose_extractor(1, whole.data.channels),)
    images = max(FEWEST_IMAGES, min(evaluate.c2st.images, count // 2 * 2))  # with fewer, c2st is left out below
    opponents = evaluate.c2st.model_copy(update={"images": images})
    evaluate = evaluate.model_copy(update={"extractors": tuple(dict.fromkeys([*named, *EYES])), "c2st": opponents})
    enough = [name for name in MEASURES if count >= metric.get(name).least(evaluate, 0)[0]]
    evaluate = evaluate.model_copy(update={"metrics": tuple(dict.fromkeys([*evaluate.metrics, *enough]))})
    for name in named if AUTO not in named and named != whole.evaluate.extractors else ():
        evaluate = limits.possible_metrics(evaluate, extractor.get(name), count)
    return {
        "evaluate.extractors": [*evaluate.extractors],
        "evaluate.metrics": [*evaluate.metrics],
        "evaluate.c2st.images": opponents.images,
    }


def champion_params(state: Climb) -> str:
    """The content of params.yaml for the champion. Raises UserError if it is a program's, which has none."""
    contest = state.contest
    if contest.of_program:
        raise UserError(f"{contest.path}: a program has no params.yaml; see `ddpm ladder show {contest.name}`")
    preset = presets.text(contest.terms.base)
    changes = contest.terms.model_dump(mode="json")["common"] | dict(state.changes)
    header = f"# The champion of {contest.path}: {state.title}, on the preset {contest.terms.base}.\n# Run: dvc repro\n"
    return presets.edit(preset, apply_overrides({}, changes, str(contest.path)), header)
