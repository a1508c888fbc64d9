"""From a study's file to a Study, checked: every arm's params are valid, no two are equal, and it can be decided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ddpm.base import files, sections
from ddpm.base.errors import UserError
from ddpm.base.paths import PROCESSED, STUDIES
from ddpm.base.variant import closest
from ddpm.data.processed import MANIFEST, read_manifest
from ddpm.params import config, file, inputs, presets
from ddpm.params.config import Config
from ddpm.scoring import extractor, metric
from ddpm.scoring.evaluate_params import AUTO, CHOICE
from ddpm.study import budget, grid
from ddpm.study.experiments import Study, learned
from ddpm.study.plan import NAME, Plan, Program
from ddpm.verdicts import metrics, statistics
from ddpm.verdicts.sequential import Design

MADE_BY = metric.makers()


class OpenPrimary(UserError):
    """The plan names no primary metric, and the default depends on images that are not here."""


def load(path: Path) -> Study:
    """The study in a file, checked. Raises UserError that names the key, its value and what is allowed."""
    if not path.exists():
        known = sorted(plan.stem for plan in STUDIES.glob("*.yaml"))
        there = f"; {STUDIES}/ has {', '.join(known)}" if known else ""
        raise UserError(f"{path}: no such study{closest(path.stem, known)}; `ddpm study new NAME` writes one{there}")
    return parse(file.read(path), path)


def parse(value: dict[str, Any], path: Path) -> Study:
    """Like ``load``, from the plain values of a file."""
    if path.suffix != ".yaml" or not re.fullmatch(NAME, path.stem):
        raise UserError(
            f"{path}: a study's file ends in .yaml, and its name has small letters, digits, - and _ (at most 41); "
            "`ddpm study new NAME` writes one"
        )
    plan = sections.parse(value, str(path), Plan)
    base = presets.text(plan.base) if plan.base else file.PATH.read_text(encoding="utf-8") if file.read() else ""
    budget.check(plan, str(path))
    study = Study(path.stem, plan, {}, {}, path=path)
    plain = plan.model_dump(mode="json")
    for arm, values in plain["arms"].items():
        source = f"{path}: arms.{arm}"
        if "program" in values:
            study.programs[arm] = sections.parse(values, source, Program)
            _check_program(plan, study.programs[arm], source)
        overrides = plain["common"] | ({} if arm in study.programs else values)
        if "seed" in overrides:
            raise UserError(f"{source}: seed: every arm gets the same seeds; first_seed says where they begin")
        changes = {**overrides, "seed": plan.first_seed}
        if plan.budget == "flops":
            trial = file.decode(grid.overridden(base, changes, source), source)
            study.flops[arm] = budget.per_step(config.check(trial, source))
            if arm != study.baseline:
                changes["train.steps"] = budget.steps(study, arm)
        study.texts[arm] = grid.overridden(base, changes, source)
        params = study.params[arm] = file.decode(study.texts[arm], source)
        study.configs[arm] = config.check(params, source)
        if plan.tune is not None:
            if fixed := [key for key in plan.tune.values if key in overrides]:
                raise UserError(f"{source}: {fixed[0]}: tune chooses it: take it out of the arm, or out of tune")
            study.points[arm] = grid.points(plan.tune, params, source)
    if "primary" not in plan.model_fields_set:
        study.plan = plan = plan.model_copy(update={"primary": _headline(study)})
    _distinct(study)
    _apart(study)
    alpha = 1 - study.config.compare.confidence
    fewest = Design(plan.looks, plan.spending).fewest(alpha) or statistics.fewest_seeds(alpha)
    if plan.looks[0] < fewest:
        raise UserError(f"{path}: looks: {plan.looks[0]} seeds cannot decide anything; allowed: {fewest} or more")
    for arm, config_of_arm in study.configs.items():
        unscored = "a program's samples have no likelihood" if "." not in plan.primary and arm in study.programs else ""
        if missing := unscored or missing_score(plan.primary, config_of_arm):
            raise UserError(f"{path}: primary: no run of {arm} will have {plan.primary}: {missing}")
    return study


def _check_program(plan: Plan, program: Program, source: str) -> None:
    """Raises UserError if the plan asks of a program what only this trainer does."""
    if plan.tune or plan.budget != "images":
        key = "tune" if plan.tune else "budget: flops"
        raise UserError(f"{source}: program: {key} changes params, which only this trainer reads; take one of them out")
    try:
        program.digests()
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _headline(study: Study) -> str:
    """The primary metric of a plan that names none. Raises OpenPrimary if it depends on images that are not here."""
    options, params = study.config.evaluate, study.params[study.baseline]
    if options.extractors[0] == AUTO:
        path = PROCESSED / MANIFEST
        manifest = {"path": str(path), "md5": files.md5(path)} if path.exists() else {}
        outs = inputs.recorded("preprocess")[0].get("outs", [])
        recorded = all(inputs.on_record(stage, params) for stage in ("download", "preprocess"))
        if not (recorded and any(manifest.items() <= out.items() for out in outs if manifest)):
            raise OpenPrimary(
                f"{study.path}: primary: missing, and what evaluate.extractors: [{AUTO}] means depends on the images, "
                f"which are not here: add `primary: {CHOICE[0]}.fd` if they have classes, a folder for each, or else "
                f"`primary: {CHOICE[1]}.fd`"
            )
        options = options.resolved(len(read_manifest(PROCESSED).classes))
    first = options.extractors[0]
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


def _distinct(study: Study) -> None:
    """Raises UserError if two arms are the same experiment."""
    names: dict[str, str] = {}
    for arm, config_of_arm in study.configs.items():
        program = study.programs.get(arm)
        key = program.program if program else files.digest(learned(config_of_arm, defaults=True))
        if key in names:
            raise UserError(
                f"{study.path}: arms: {names[key]} and {arm} are equal: give one of them another value, or drop it"
            )
        names[key] = arm


def _apart(study: Study) -> None:
    """Raises UserError if a run for tuning has a seed or a name of the verdict's."""
    seeds = range(study.plan.first_seed, study.plan.first_seed + study.plan.looks[-1])
    if study.plan.tune and (same := [seed for seed in study.plan.tune.drawn if seed in seeds]):
        raise UserError(
            f"{study.path}: tune.seeds: {same[0]} is a seed of the verdict, which has {seeds[0]} to {seeds[-1]}: "
            "values are chosen on seeds that the verdict does not use"
        )
    names = {experiment.name for experiment in study.experiments()}
    if same_name := [experiment for experiment in (*study.tuning(), *study.alternatives()) if experiment.name in names]:
        other = same_name[0].name.rpartition("-")[0]
        raise UserError(f"{study.path}: arms: {other}: runs for tuning have that name; give the arm another one")
