"""From a study's file to a Study, checked: every arm's params are valid, no two are equal, and it can be decided. And
the file that a new study starts from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import yaml

from ddpm.arms import revision
from ddpm.arms.run import Program, Recipe, apply_overrides
from ddpm.base import files, sections
from ddpm.base.errors import UserError, blame
from ddpm.base.paths import METRICS, STUDIES
from ddpm.base.variant import closest
from ddpm.params import config, file, possible, presets
from ddpm.params.config import Config
from ddpm.programs.program import COMMIT, DIGEST
from ddpm.referee import metrics
from ddpm.runs import rows
from ddpm.runs.rows import Rows
from ddpm.scoring import extractor, limits, metric
from ddpm.scoring.evaluate_params import AUTO, CHOICE
from ddpm.study.plan import Plan, ProgramPlan, ProgramStudy, Study, Tune, check_name, params_of_result
from ddpm.tools import clone
from ddpm.tools.clone import Found
from ddpm.verdicts import statistics
from ddpm.verdicts.tuning import name_values

HEADER = """\
# Run: ddpm study status {path}, and ddpm study run {path}
# Commit this file before the first run: from then on the plan is fixed. The first arm is the baseline, each on top of
# the params in common and those of the base. The verdict is about the primary metric, and may be decided at the looks,
# numbers of seeds.
"""


class OpenPrimary(UserError):
    """The plan names no primary metric, and the default depends on images that are not here."""


def load(path: Path) -> Study:
    """The study in a file, checked. Raises UserError that names the key, its value and what is allowed, or as
    ``revision.check_index`` does."""
    revision.check_index()
    if not path.is_file():
        known = sorted(plan.stem for plan in STUDIES.glob("*.yaml"))
        raise UserError(f"{path}: no such study{closest(path.stem, known)}; `ddpm study new NAME` writes one")
    return parse(file.read_params(path), path)


def parse(value: dict[str, Any], path: Path) -> Study:
    """Like ``load``, from the plain values of a file."""
    check_name(path, "study")
    study = _parse_program(value, path) if "run" in value else _parse(value, path)
    known: dict[str, str] = {}
    for arm, recipe in study.arms.items():
        program = recipe.params if study.of_program else recipe.program and recipe.program.program
        content = program or params_of_result(recipe.config, defaults=True)
        if (twin := known.setdefault(files.digest(content), arm)) != arm:
            raise UserError(f"{path}: arms: {twin} and {arm} are equal: change one of them, or drop it")
        if not study.of_program:
            check_scores(recipe, [("primary", study.plan.primary)], f"{path}: arms.{arm}")
    fewest = statistics.fewest_seeds(1 - study.compare.confidence)
    if (first := study.plan.looks[0]) < fewest:
        raise UserError(f"{path}: looks: {first} seeds cannot decide anything; allowed: {fewest} or more")
    return study


def _parse(value: dict[str, Any], path: Path) -> Study:
    plan = sections.parse(value, str(path), Plan)
    if plan.base:
        with blame(f"{path}: base"):
            base = presets.read(plan.base)
    else:
        base = file.read_params()
    arms, grid = dict[str, Recipe](), dict[str, Sequence[Recipe]]()
    for arm, values in plan.model_dump(mode="json")["arms"].items():
        arms[arm] = _read_arm(plan, values, base, f"{path}: arms.{arm}")
        if plan.tune:
            grid[arm] = _read_grid(plan.tune, arms[arm], f"{path}: arms.{arm}")
    study = Study(path.stem, plan, arms, path, grid)
    if "primary" not in plan.model_fields_set:
        study = replace(study, plan=plan.model_copy(update={"primary": headline(study.config, path)}))
    return study


def _parse_program(value: dict[str, Any], path: Path) -> ProgramStudy:
    """The study of a program. Arms that name no commit run that of their first row, or what is checked out."""
    plan = sections.parse(value, str(path), ProgramPlan)
    own = {f"{path.stem}-{arm}" for arm, values in plan.arms.items() if COMMIT not in values}
    made = Rows(METRICS / "studies" / path.stem / rows.NAME).records.values()
    commit = next((str(run.params.get(COMMIT)) for run in made if run.name.rpartition("-")[0] in own), "")
    head = commit if DIGEST.fullmatch(commit) else revision.head()
    arms = dict[str, Recipe]()
    for arm, values in plan.arms.items():
        commit = revision.find(str(values[COMMIT])) if COMMIT in values else head
        plan.check({**values, COMMIT: commit}, f"{path}: arms.{arm}")
        arms[arm] = Recipe({**plan.values, **values, COMMIT: commit}, cast(Any, None))
    return ProgramStudy(path.stem, plan, arms, path, head=head)


def _read_arm(plan: Plan, values: dict[str, Any], base: dict[str, Any], source: str) -> Recipe:
    """An arm of the plan. Raises UserError, which begins with ``source``."""
    program, overrides = None, plan.model_dump(mode="json")["common"]
    if "program" in values:
        if plan.tune:
            raise UserError(f"{source}: program: tune changes params, which only this trainer reads; drop one of them")
        program = sections.parse(values, source, Program)
        if missing := [path for path in program.files if not Path(path).is_file()]:
            raise UserError(f"{source}: files: {missing[0]}: no such file in this repository")
    else:
        overrides |= values
    if "seed" in overrides:
        raise UserError(f"{source}: seed: every arm gets the same seeds; set first_seed instead")
    if fixed := [key for key in (plan.tune.values if plan.tune else ()) if key in overrides]:
        raise UserError(f"{source}: {fixed[0]}: tune chooses it: take it out of the arm, or out of tune")
    params = apply_overrides(base, {**overrides, "seed": plan.first_seed}, source)
    recipe = Recipe(params, config.parse(params, source), program=program)
    check_device(recipe.config, source)
    return recipe


def _read_grid(tune: Tune, arm: Recipe, source: str) -> list[Recipe]:
    """The arm with each of the values to try. Raises UserError, which begins with ``source``."""
    tried = [(values, apply_overrides(arm.params, values, f"{source}: tune")) for values in tune.grid]
    return [
        Recipe(params, config.parse(params, f"{source}, with {name_values(values)}"), values)
        for values, params in tried
    ]


def check_device(of_arm: Config, source: str) -> None:
    """Raises UserError, which begins with ``source``, if params number a GPU: an experiment sees one alone."""
    if number := of_arm.device.partition(":")[2]:
        raise UserError(
            f"{source}: device: {of_arm.device} is not allowed here, where experiments get one GPU each: set auto, cpu "
            f"or cuda; CUDA_VISIBLE_DEVICES={number} before the command leaves them this GPU alone"
        )


def check_scores(recipe: Recipe, wanted: Iterable[tuple[str, str]], source: str, look: bool = False) -> None:
    """Raises UserError, which begins with ``source``, if runs cannot be scored, or will not have the metrics
    ``wanted``, each with the key that asks for it. look: at their images, too."""
    with blame(source):
        evaluated, found = recipe.config, clone.look(recipe.config.data) if look else Found()
        if found.classes is not None:  # so it is known what ``auto`` means
            resolved = evaluated.evaluate.resolve(found.classes, evaluated.data.channels)
            evaluated = evaluated.model_copy(update={"evaluate": resolved})
        scores = future_scores(evaluated, bool(recipe.program))
        for key, name in wanted:
            if name not in scores:
                allowed = ", ".join(metrics.select_judged(scores))
                raise UserError(f"{key}: no run will have {name}; allowed: {allowed}")
        possible.check_scores(evaluated, found.train, found.classes)


def headline(params: Config, path: Path) -> str:
    """The primary metric of a file that names none: the panel's score if there are several eyes. Raises OpenPrimary if
    it depends on the images."""
    if metrics.PANEL in future_scores(params):
        return metrics.PANEL
    evaluate, channels = params.evaluate, params.data.channels
    first, with_classes = (evaluate.resolve(classes, channels).extractors[0] for classes in (0, 2))
    if first != with_classes:
        raise OpenPrimary(
            f"{path}: primary: missing, and what evaluate.extractors: [{AUTO}] means depends on the images: "
            f"{with_classes}.fd if they have classes, a folder for each, otherwise {first}.fd"
        )
    return f"{first}.{extractor.get(first).frechet if 'fid' in evaluate.metrics else 'kid_mean'}"


def future_scores(of_arm: Config, of_program: bool = False) -> set[str]:
    """The scores that are judged, of runs with these params; with ``auto``, of all extractors that it may mean. A
    program's samples have no likelihood."""
    options, scores = of_arm.evaluate, set[str]()
    if options.likelihood.images and not of_program:
        scores.update(metrics.ALONE)
    if metric.has_panel(options):
        scores.add(metrics.PANEL)
    scores.update(f"{one.name}.{score.name}" for one in metric.of_images(options) for score in one.scores)
    for features in map(extractor.get, {*options.extractors, *(CHOICE if AUTO in options.extractors else ())} - {AUTO}):
        names = [score.name for one in limits.suitable_metrics(options, features) for score in one.scores]
        if of_arm.model.classes and features.knows_classes:
            names.append(metric.CLASS_ACCURACY.name)
        other_frechet = {*metrics.HEADLINE} - {features.frechet}
        scores.update(f"{features.name}.{name}" for name in names if metrics.estimand(name) not in other_frechet)
    return scores


def draft(name: str, vary: Sequence[str], common: Sequence[str], base: str | None) -> Path:
    """Write studies/NAME.yaml, with an arm for each combination of the values; return its path. What cannot be known
    yet is a comment. Raises UserError if the file exists, or the plan is not valid."""
    path = STUDIES / f"{name}.yaml"
    check_name(path, "study", STUDIES)
    if path.exists():
        raise UserError(f"{path}: exists; choose another name, or edit it")
    pairs = (file.split_option("--vary", option) for option in vary)
    varied = {key: re.split(r",(?![^\[{]*[\]}])", values) for key, values in pairs}  # not at commas within lists
    if len(varied) < len(vary):
        raise UserError(f"--vary: {', '.join(vary)}: contains a duplicate; allowed: each key once, as KEY=A,B,C")
    arms: dict[str, dict[str, Any]] = {}
    for values in product(*varied.values()):
        label = "_".join(re.sub(r"[^a-z0-9_-]", "_", value.strip().lower()).strip("_") for value in values)
        if not isinstance(file.plain(label), str):  # a number, true or null
            label = f"{next(iter(varied)).rpartition('.')[2]}_{label}"
        if label in arms:
            raise UserError(f"--vary: {', '.join(values)}: {label} would name the same arm twice; leave one out")
        settings = [f"{key}={value}" for key, value in zip(varied, values, strict=True)]
        arms[label] = file.decode_options("--vary", settings)
    *others, last = arms
    if not others:
        raise UserError(f"--vary: {', '.join(vary)}: one arm; allowed: two values or more, as KEY=A,B")
    plan: dict[str, Any] = {"question": f"Which of {', '.join(others)} and {last} is better?"}
    plan |= {**({"base": base} if base else {}), "common": file.decode_options("--set", common), "arms": arms}
    missing = ""
    try:
        plan["primary"] = parse(plan, path).plan.primary
    except OpenPrimary as error:
        missing = f"# {error}:\n# primary: classifier.fd\n"
    plan |= {"looks": list(Plan.model_fields["looks"].default)}
    text = yaml.safe_dump(plan, sort_keys=False, default_flow_style=None, width=120)
    files.write_text(path, f"{HEADER.format(path=path)}{text}{missing}")
    return path
