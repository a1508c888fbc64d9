"""A study's file: what is refused in it, what it contains in full, and the one that ``ddpm study new`` writes."""

import re
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.params import config
from ddpm.study import loading
from tests.study_project import study

STUDY = """\
question: Which schedule?
base: digits_small_2026
arms:
  cosine: {diffusion.schedule.name: cosine}
  linear: {diffusion.schedule.name: linear}
looks: [8, 12]
"""
CLASSES = "common: {model.classes: 10, evaluate.extractors: [random_conv, components], evaluate.metrics: [kid, isc]}"
A = Path("studies/a.yaml")
LOSSES = ("--vary", "diffusion.loss.name=simple,min_snr")


pytestmark = pytest.mark.usefixtures("project")


def load(*lines: str, both: str = "", **replaced: str):
    """STUDY with other lines before the last one, with other keys in both arms, and other words in place of some."""
    text = STUDY.replace("{", f"{{{both}, ") if both else STUDY
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    A.write_text(text.replace("looks", "\n".join([*lines, "looks"])))
    return loading.load(A)


def test_experiments_are_interleaved_over_the_arms():
    assert [run.name for run in load().experiments(2)] == ["cosine-0", "linear-0", "cosine-1", "linear-1"]
    # the base is params.yaml unless the plan names a preset, and seeds may begin later
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("steps: 1000", "steps: 7"))
    A.write_text(STUDY.replace("base: digits_small_2026", "first_seed: 20"))
    experiments = loading.load(A).experiments(2)
    assert [run.seed for run in experiments] == [20, 20, 21, 21]
    params = config.parse(experiments[3].params)
    assert (params.seed, params.train.steps, params.diffusion.schedule.name) == (21, 7, "linear")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("looks", "look", "look: unknown key (did you mean 'looks'?)"),
        ("[8, 12]", "[12, 8]", "looks: (12, 8)"),
        ("[8, 12]", "[]", "looks: ()"),
        ("name: linear", "name: cosine", "arms: cosine and linear"),
        ("small_2026", "smal_2026", "studies/a.yaml: base: preset: unknown 'digits_smal_2026' (did you mean"),
        ("  linear: {diffusion.schedule.name: linear}\n", "", "arms"),
        ("linear}", "none}", "arms.linear: diffusion.schedule.name: unknown 'none'"),
        ("diffusion.schedule.name: linear", "seed: 3", "arms.linear: seed"),
        ("looks", "common: {seed: 3}\nlooks", "seed"),
        ("looks", "primary: classifier.fdd\nlooks", "classifier.fdd; allowed: classifier.fd, "),
        ("looks", f"{CLASSES}\nprimary: components.class_accuracy\nlooks", "will have components.class_accuracy"),
        ("looks", f"{CLASSES}\nprimary: random_conv.is_mean\nlooks", "no run will have random_conv.is_mean"),
    ],
)
def test_what_is_refused(old, new, line):
    assert old in STUDY
    A.write_text(STUDY.replace(old, new, 1))
    with pytest.raises(UserError, match=re.escape(line)):
        loading.load(A)


def test_the_hash_is_of_what_decides():
    here = load().hash
    assert load(Which="What").hash == here
    # a key that is added later has a default, and so must a plan written before it stay the plan that it was
    assert load(**{"name: linear": "name: linear, diffusion.schedule.linear.beta_end: 0.02"}).hash == here
    assert load("may_differ: [evaluations]").hash == here
    for old, new in (("12]", "16]"), ("name: linear", "name: sigmoid")):
        assert load(**{old: new}).hash != here
    assert load("primary: classifier.kid_mean").hash != here


def test_looks_count_whether_or_not_they_are_the_default():
    A.write_text(STUDY.replace("looks: [8, 12]", ""))
    default = loading.load(A)
    assert default.plan.looks == (6, 10, 15, 20)
    assert default.hash == load(**{"[8, 12]": "[6, 10, 15, 20]"}).hash != load(**{"[8, 12]": "[8, 12, 16, 20]"}).hash


def test_only_a_classifier_of_the_classes_measures_their_accuracy():
    plan = load("common: {model.classes: 10}", "primary: classifier.class_accuracy").plan
    assert plan.primary == "classifier.class_accuracy"


def test_common_keys_are_those_of_every_arm():
    common = load("common: {train.steps: 7, train.batch_size: 32}")
    assert {recipe.config.train.steps for recipe in common.arms.values()} == {7}
    assert common.hash == load(both="train.steps: 7, train.batch_size: 32").hash != load().hash
    own = load("common: {train.steps: 7}", **{"linear}": "linear, train.steps: 9}"})
    assert [recipe.config.train.steps for recipe in own.arms.values()] == [7, 9]


@pytest.mark.parametrize(("vary", "names"), [
    ("train.learning_rate=1e-3,2e-3", ["learning_rate_1e-3", "learning_rate_2e-3"]),
    ("model.unet.multipliers=[1,2],[2,4]", ["multipliers_1_2", "multipliers_2_4"]),
    ("diffusion.loss.name=simple,min_snr train.batch_size=64,128",
     ["simple_64", "simple_128", "min_snr_64", "min_snr_128"]),
])  # fmt: skip
def test_new_writes_a_valid_study_and_overwrites_none(vary, names, capsys):
    path, common = Path("studies/new.yaml"), ("--base", "digits_small_2026", "--set", "train.steps=9")
    assert study("new", "new", "--vary", *vary.split(), *common) == 0
    plan = loading.load(path)
    assert f" and {names[-1]} is better?" in plan.plan.question
    assert (list(plan.arms), plan.plan.primary, plan.plan.looks) == (names, "classifier.fd", (6, 10, 15, 20))
    assert {recipe.config.train.steps for recipe in plan.arms.values()} == {9}
    before = path.read_text()
    assert study("new", "new", *LOSSES) == 2
    assert "studies/new.yaml: exists" in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--vary", "diffusion.loss.name=simple"), "--vary: diffusion.loss.name=simple: one arm"),
        (("--vary", "train.optimizer.adam.betas=[0.9,0.99"), "--vary: train.optimizer.adam.betas=[0.9: not valid YAML"),
        (("--vary", "train.batch_size=64,64"), "name the same arm twice"),
        ((*LOSSES, *LOSSES), "diffusion.loss.name=simple,min_snr: contains a duplicate"),
        ((*LOSSES, "--set", "=3"), "--set: =3"),
    ],
)
def test_new_refuses_what_is_not_a_study(options, line, capsys):
    assert study("new", "loss", *options) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert line in said
    assert not Path("studies/loss.yaml").exists()


@pytest.mark.parametrize("name", ["a/b", "../evil", "studies/loss", "A B"])
def test_new_writes_into_studies_alone(name, capsys):
    before = {*Path("..").rglob("*.yaml")}
    assert study("new", name, *LOSSES) == 2
    assert f"studies/{name}.yaml" in capsys.readouterr().err
    assert {*Path("..").rglob("*.yaml")} == before
