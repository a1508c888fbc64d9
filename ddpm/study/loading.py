"""From a study's file to a Study, checked: every arm's params are valid, no two are equal, and it can be decided."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.paths import STUDIES
from ddpm.base.variant import closest
from ddpm.params import config, file, presets
from ddpm.params.config import Config
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import AUTO, CHOICE
from ddpm.study.experiments import Point, Study, changed, learned
from ddpm.study.plan import NAME, Plan, Program
from ddpm.verdicts import metrics, statistics
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.tuning import named

MADE_BY = metric.makers()


class OpenPrimary(UserError):
    """The plan names no primary metric, and the default depends on images that are not here."""


def load(path: Path) -> Study:
    """The study in a file, checked. Raises UserError that names the key, its value and what is allowed."""
    if not path.exists():
        known = sorted(plan.stem for plan in STUDIES.glob("*.yaml"))
        raise UserError(f"{path}: no such study{closest(path.stem, known)}; `ddpm study new NAME` writes one")
    return parse(file.read(path), path)


def parse(value: dict[str, Any], path: Path) -> Study:
    """Like ``load``, from the plain values of a file."""
    if path.suffix != ".yaml" or not re.fullmatch(NAME, path.stem):
        raise UserError(
            f"{path}: a study's file ends in .yaml, and its name has small letters, digits, - and _ (at most 41); "
            "`ddpm study new NAME` writes one"
        )
    plan = sections.parse(value, str(path), Plan)
    base = file.decode(presets.text(plan.base), plan.base) if plan.base else file.read()
    study = Study(path.stem, plan, {}, {}, path=path)
    for arm, values in plan.model_dump(mode="json")["arms"].items():
        _add(study, arm, values, base, f"{path}: arms.{arm}")
    if "primary" not in plan.model_fields_set:
        study.plan = plan = plan.model_copy(update={"primary": _headline(study)})
    _check_distinct(study)
    alpha = 1 - study.config.compare.confidence
    fewest = Design(plan.looks, plan.spending).fewest(alpha) or statistics.fewest_seeds(alpha)
    if plan.looks[0] < fewest:
        raise UserError(f"{path}: looks: {plan.looks[0]} seeds cannot decide anything; allowed: {fewest} or more")
    for arm, config_of_arm in study.configs.items():
        unscored = "a program's samples have no likelihood" if "." not in plan.primary and arm in study.programs else ""
        if missing := unscored or missing_score(plan.primary, config_of_arm):
            raise UserError(f"{path}: primary: no run of {arm} will have {plan.primary}: {missing}")
    return study


def _add(study: Study, arm: str, values: dict[str, Any], base: dict[str, Any], source: str) -> None:
    """Add an arm to the study. Raises UserError, which begins with ``source``."""
    plan = study.plan
    common = plan.model_dump(mode="json")["common"]
    overrides = common | values
    if "program" in values:
        if plan.tune:
            raise UserError(f"{source}: program: tune changes params, which only this trainer reads; drop one of them")
        study.programs[arm], overrides = sections.parse(values, source, Program), common
        try:
            study.programs[arm].digests()
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
    if "seed" in overrides:
        raise UserError(f"{source}: seed: every arm gets the same seeds; first_seed says where they begin")
    params = study.params[arm] = changed(base, {**overrides, "seed": plan.first_seed}, source)
    study.configs[arm] = config.check(params, source)
    if plan.tune is None:
        return
    if fixed := [key for key in plan.tune.values if key in overrides]:
        raise UserError(f"{source}: {fixed[0]}: tune chooses it: take it out of the arm, or out of tune")
    study.points[arm] = [
        Point(values, config.check(changed(params, values, f"{source}: tune"), f"{source}, with {named(values)}"))
        for values in plan.tune.grid
    ]


def _headline(study: Study) -> str:
    """The primary metric of a plan that names none. Raises OpenPrimary if it depends on the images."""
    evaluate, channels = study.config.evaluate, study.config.data.channels
    first, with_classes = (evaluate.resolved(classes, channels).extractors[0] for classes in (0, 2))
    if first != with_classes:
        raise OpenPrimary(
            f"{study.path}: primary: missing, and what evaluate.extractors: [{AUTO}] means depends on the images: "
            f"{with_classes}.fd if they have classes, a folder for each, otherwise {first}.fd"
        )
    return f"{first}.{extractor.get(first).frechet}"


def missing_score(score: str, of_arm: Config) -> str:
    """Why a run with these params will not have the score; empty if it will."""
    features, _, kind = score.rpartition(".")
    options = of_arm.evaluate
    if not features:
        return "" if options.likelihood.images else "its evaluate.likelihood.images is 0"
    if features not in options.extractors and not (AUTO in options.extractors and features in CHOICE):
        return f"its evaluate.extractors are {', '.join(options.extractors)}"
    if kind == metric.CLASS_ACCURACY.name:
        return "" if of_arm.model.classes else "its model.classes is 0"
    if MADE_BY[kind] not in options.metrics:
        return f"its evaluate.metrics are {', '.join(options.metrics)}"
    frechet = extractor.get(features).frechet
    if metrics.estimated(score) in metrics.HEADLINE and metrics.estimated(score) != frechet:
        return f"the Fréchet distance of {features} is called {frechet}"
    return ""


def _check_distinct(study: Study) -> None:
    """Raises UserError if two arms are the same experiment, or two experiments have the same name."""
    arms: dict[str, str] = {}
    for arm, config_of_arm in study.configs.items():
        program = study.programs.get(arm)
        key = program.program if program else files.digest(learned(config_of_arm, defaults=True))
        if key in arms:
            raise UserError(
                f"{study.path}: arms: {arms[key]} and {arm} are equal: give one of them another value, or drop it"
            )
        arms[key] = arm
    (name, count), *_ = Counter(experiment.name for experiment in study.lines()).most_common(1)
    if count > 1:
        raise UserError(f"{study.path}: arms: two experiments would have the name {name}; give an arm another name")
