"""The file that a new study starts from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.paths import STUDIES
from ddpm.params import file
from ddpm.study import loading
from ddpm.study.plan import Plan

HEADER = """\
# Run: ddpm study status {path}, and ddpm study run {path}
# Commit this file before the first run: from then on the plan is fixed. The first arm is the baseline, each on top of
# the params in common and those of the base. The verdict is about the primary metric, and may be decided at the looks,
# numbers of seeds. With `spending: evalue` instead of pocock, looks may be changed and added at any time.
"""


def write(name: str, vary: Sequence[str], common: Sequence[str], base: str | None, primary: str | None) -> Path:
    """Write studies/NAME.yaml, with an arm for each combination of the values; return its path. Raises UserError if
    it exists, or the plan is not valid."""
    path = STUDIES / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or edit it")
    varied = {key: values.split(",") for key, values in (_setting("--vary", option) for option in vary)}
    arms: dict[str, dict[str, Any]] = {}
    for values in product(*varied.values()):
        label = "_".join(re.sub(r"[^a-z0-9_-]", "_", value.strip().lower()) for value in values)
        if not isinstance(file.plain(label), str):  # a number, true or null
            label = f"{next(iter(varied)).rpartition('.')[2]}_{label}"
        if label in arms:
            raise UserError(f"--vary: {', '.join(values)}: {label} would name the same arm twice; leave one out")
        arms[label] = {key: file.plain(value.strip()) for key, value in zip(varied, values, strict=True)}
    plan: dict[str, Any] = {"question": f"Which of {', '.join(arms)} is better?"}
    plan |= {"base": base} if base else {}
    plan |= {"common": {key: file.plain(value) for key, value in (_setting("--set", option) for option in common)}}
    plan |= {"arms": arms} | ({"primary": primary} if primary else {})
    plan["primary"] = loading.parse(plan, path).plan.primary
    plan |= {"looks": list(Plan.model_fields["looks"].default), "spending": "pocock"}
    with atomic_path(path) as temporary:
        text = yaml.safe_dump(plan, sort_keys=False, default_flow_style=None, width=120)
        temporary.write_text(HEADER.format(path=path) + text)
    return path


def _setting(option: str, text: str) -> tuple[str, str]:
    """A params key and the text of its value. Raises UserError."""
    key, _, value = text.partition("=")
    if not key or not value.strip():
        raise UserError(f"{option}: {text}: allowed: a params key and its value, such as data.source=photos")
    return key, value.strip()
