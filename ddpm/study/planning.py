"""The cost of a study before it runs, and the file that a new one starts from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from ddpm.base.errors import UserError
from ddpm.base.files import atomic_path
from ddpm.base.paths import STUDIES
from ddpm.base.progress import duration
from ddpm.params import file
from ddpm.scoring.evaluate_params import CLASSES, auto
from ddpm.sources import fetch
from ddpm.study import loading
from ddpm.study.experiments import Study
from ddpm.study.ledger import Ledger
from ddpm.study.loading import OpenPrimary
from ddpm.study.plan import Plan, Spending

TEMPLATE = """\
# Run: ddpm study status {path}, and ddpm study run {path}
# Commit this file before the first run: from then on the plan is fixed.
question: Which of {labels} is better?
{base}{common}arms:                           # the first is the baseline
{arms}
{primary}
looks: [{looks}]             # numbers of seeds at which it may be decided
spending: {spending}                    # pocock; evalue: looks may be changed and added at any time
"""
PRIMARY = "primary: {}            # what the verdict is about; all other metrics are secondary"
OPEN = """\
# What the verdict is about depends on the images, which are not here. If they have classes, a folder for each, remove
# the # below; otherwise write {1}.fd there.
# primary: {0}.fd"""


class Cost(NamedTuple):
    """Seconds of one experiment (None if not known), and where that figure comes from."""

    seconds: float | None
    source: str


def cost(ledger: Ledger, pilot: bool) -> Cost:
    """From the study's own results, or from a few steps of the baseline's training, sampling and scoring."""
    if ledger.seconds is not None:
        return Cost(ledger.seconds, f"mean of {len(ledger.records)} finished experiments, all stages")
    if not pilot:
        return Cost(None, "no experiment is finished")
    from ddpm.tools import forecast

    config = ledger.study.config
    measured = forecast.measure(config)
    seconds = forecast.seconds(config, measured, forecast.train_images(config))
    once = sum(seconds[stage] for stage in forecast.SHARED)
    source = f"a pilot on {measured.device}, all stages; the first has about {duration(once)} more, for the images"
    return Cost(sum(seconds.values()) - once, source)


def check_sources(study: Study) -> None:
    """Raises UserError if the images of an arm cannot come from where its ``data.source`` says."""
    for arm, config in study.configs.items():
        try:
            fetch.origin(config.data.dataset, config.data.source)
        except UserError as error:
            raise UserError(f"{study.path}: {arm}: {error}") from error


def write(
    name: str,
    vary: Sequence[str],
    common: Sequence[str] | None,
    base: str | None,
    looks: Sequence[int] | None,
    spending: Spending,
) -> Path:
    """Write studies/NAME.yaml, with an arm for each combination of the values; return its path. Raises UserError if
    it exists, or the plan is not valid."""
    path = STUDIES / f"{name}.yaml"
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or edit it")
    keys = [_values(option) for option in vary]
    arms = {}
    for values in product(*(values for _, values in keys)):
        label = "_".join(re.sub(r"[^a-z0-9_-]", "_", value.lower()) for value in values)
        if not isinstance(file.plain(label), str):  # a number, true or null
            label = f"{keys[0][0].rpartition('.')[2]}_{label}"
        if label in arms:
            raise UserError(f"--vary: {', '.join(values)}: {label} would name the same arm twice; leave one out")
        arms[label] = ", ".join(f"{key}: {value}" for (key, _), value in zip(keys, values, strict=True))
    width = max(map(len, arms))
    lines = "".join(f"  {key}: {value}\n" for key, value in map(_setting, common or ()))
    text = partial(
        TEMPLATE.format,
        path=path,
        labels=" and ".join(arms) if len(arms) == 2 else ", ".join(arms),
        base=f"base: {base}\n" if base else "",
        common=f"common:                             # params keys of all arms\n{lines}" if lines else "",
        arms="\n".join(f"  {label + ':':{width + 1}} {{{values}}}" for label, values in arms.items()),
        looks=", ".join(map(str, looks or Plan.model_fields["looks"].default)),
        spending=spending,
    )
    value = file.decode(text(primary=""), str(path))
    try:
        primary = PRIMARY.format(loading.parse(value, path).plan.primary)
    except OpenPrimary:
        study = loading.parse(value | {"primary": f"{CLASSES}.fd"}, path)  # nothing else is wrong
        primary = OPEN.format(CLASSES, auto(0, study.config.data.channels))
    with atomic_path(path) as temporary:
        temporary.write_text(text(primary=primary))
    return path


def _setting(option: str) -> tuple[str, str]:
    key, _, value = option.partition("=")
    if not key or not value.strip():
        raise UserError(f"--set: {option}: allowed: a params key and its value, such as data.source=photos")
    return key, value.strip()


def _values(option: str) -> tuple[str, list[str]]:
    key, _, values = option.partition("=")
    listed = [value.strip() for value in values.split(",")]
    if not key or not all(listed) or not values:
        raise UserError(f"--vary: {option}: allowed: a params key and its values, such as train.batch_size=64,128")
    return key, listed
