"""A study's file: what is refused in it, what it contains in full, and the one that ``ddpm study new`` writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.params import config, file, presets
from ddpm.study import loading
from ddpm.study.experiments import Study
from tests import study_project
from tests.study_project import study

STUDY = """\
question: Which schedule?
base: digits_small
arms:
  cosine: {diffusion.schedule.name: cosine}
  linear: {diffusion.schedule.name: linear}
looks: [8, 12]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study_project.make(tmp_path)
    study_project.enter(tmp_path, monkeypatch)


def load(text: str, name: str = "a") -> Study:
    path = Path(f"studies/{name}.yaml")
    path.write_text(text)
    return loading.load(path)


def test_experiments_are_interleaved_over_the_arms_and_keep_the_comments_of_the_base() -> None:
    experiments = load(STUDY).experiments(2)
    assert [each.name for each in experiments] == ["cosine-0", "linear-0", "cosine-1", "linear-1"]
    text = experiments[3].text
    base = presets.text("digits_small")
    assert text == base.replace("seed: 0  ", "seed: 1  ", 1).replace("name: cosine ", "name: linear ", 1)
    chosen = config.check(file.decode(text, "text"))
    assert (chosen.seed, chosen.diffusion.schedule.name) == (1, "linear")


def test_a_base_of_its_own_and_another_first_seed() -> None:
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("steps: 1000", "steps: 7"))
    found = load(STUDY.replace("base: digits_small", "first_seed: 20"))
    assert [each.seed for each in found.experiments(2)] == [20, 20, 21, 21]
    assert "steps: 7" in found.experiments(1)[0].text


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("looks", "look", "look: unknown key (did you mean 'looks'?)"),
        ("[8, 12]", "[12, 8]", "looks: (12, 8) is not allowed: must rise"),
        ("[8, 12]", "[4, 12]", "looks: 4 seeds cannot decide anything; allowed: 7 or more"),
        ("name: linear", "name: cosine", "arms: cosine and linear are equal"),
        ("  linear: {diffusion.schedule.name: linear}\n", "", "arms"),
        ("linear}", "none}", "arms.linear: diffusion.schedule.name: unknown 'none'"),
        ("schedule.name: linear", "schedule.name.x: linear", "diffusion.schedule.name.x: name is a value, no section"),
        ("schedule.name: linear", "schedul.name: linear", "schedul"),
        ("diffusion.schedule.name: linear", "seed: 3", "arms.linear: seed: every arm gets the same seeds"),
        ("looks", "primary: classifier.fdd\nlooks", "did you mean"),
        ("looks", "primary: inception.fid\nlooks", "no run of cosine will have inception.fid"),
        ("looks", "primary: classifier.fid\nlooks", "no run of cosine will have classifier.fid"),
        ("looks", "primary: classifier.mind\nlooks", "its evaluate.metrics are fid, isc, kid, prc"),
        ("looks", "primary: classifier.class_accuracy\nlooks", "its model.classes is 0"),
        ("base: digits_small", "base: digits_smal", "preset: unknown 'digits_smal'"),
        ("cosine:", "Cosine:", "Cosine"),
        ("looks", "may_differ: [cost]\nlooks", "may_differ.0: 'cost' is not allowed"),
    ],
)
def test_what_is_refused(old: str, new: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert old in STUDY
    Path("studies/a.yaml").write_text(STUDY.replace(old, new, 1))
    for command in ("plan", "run", "status"):
        assert study(command, "studies/a.yaml") == 2
        [said] = capsys.readouterr().err.splitlines()
        assert line in said
        assert said.startswith(("error: studies/a.yaml", "error: preset"))


@pytest.mark.parametrize("name", ["studies/a.yml", "studies/A.yaml", "studies/none.yaml", "studies"])
def test_a_file_that_is_no_study(name: str) -> None:
    with pytest.raises(UserError, match=name):
        loading.load(Path(name))


def test_the_hash_is_of_what_decides() -> None:
    here = load(STUDY).hash
    assert load(STUDY.replace("Which", "What")).hash == here
    assert load(STUDY.replace("looks", "spending: pocock\nlooks")).hash == here
    # a key that is added later has a default, and so must a plan written before it stay the plan that it was
    spelled_out = "linear, diffusion.schedule.linear.beta_end: 0.02"
    assert load(STUDY.replace("name: linear", f"name: {spelled_out}")).hash == here
    assert load(STUDY.replace("looks", "blind_to: [blur]\nlooks")).hash == here
    assert load(STUDY.replace("looks", "may_differ: [evaluations]\nlooks")).hash == here
    for old, new in (
        ("12]", "16]"),
        ("name: linear", "name: sigmoid"),
        ("looks", "primary: classifier.kid_mean\nlooks"),
    ):
        assert load(STUDY.replace(old, new)).hash != here


@pytest.mark.parametrize(
    ("primary", "keys"),
    [
        ("inception.kid_mean", "evaluate.extractors: [inception]"),
        ("classifier.clipped_coverage", "evaluate.metrics: [density_coverage]"),
        ("classifier.class_accuracy", "model.classes: 10"),
    ],
)
def test_any_score_that_the_runs_will_have_can_be_primary(primary: str, keys: str) -> None:
    text = STUDY.replace("looks", f"primary: {primary}\nlooks")
    both = text.replace("cosine: {", f"cosine: {{{keys}, ").replace("linear: {", f"linear: {{{keys}, ")
    assert load(both).plan.primary == primary


def test_the_primary_metric_follows_the_first_extractor() -> None:
    def of(change: str) -> str:
        return STUDY.replace("cosine: {", f"cosine: {{{change}, ").replace("linear: {", f"linear: {{{change}, ")

    assert load(STUDY).plan.primary == "classifier.fd"
    assert load(of("evaluate.extractors: [random_conv]")).plan.primary == "random_conv.fd"
    text = of("data.dataset.name: image_folder, data.source: mine")
    with pytest.raises(UserError, match=r"primary: missing, and what evaluate.extractors: \[auto\] means depends"):
        load(text)
    assert load(text.replace("looks", "primary: random_conv.fd\nlooks")).plan.primary == "random_conv.fd"


@pytest.mark.parametrize(("classes", "primary"), [(5, "classifier.fd"), (1, "random_conv.fd")])
def test_the_primary_metric_of_prepared_images_is_known(classes: int, primary: str) -> None:
    text = STUDY.replace("arms:", "common: {data.dataset.name: image_folder, data.source: mine}\narms:")
    manifest = {
        "dataset": "image_folder", "classes": [f"{k}" for k in range(classes)], "image_size": 16, "channels": 1,
        "counts": {"train": 10, "test": 10}, "skipped": 0, "sha256": {"train": "a", "test": "b"},
    }  # fmt: skip
    path = Path("data/processed/manifest.json")
    files.write_json(path, manifest)
    known = load(text.replace("looks", f"primary: {primary}\nlooks"))
    listed = {"path": str(path), "md5": files.md5(path)}

    def record(source: str) -> None:
        data = known.params["cosine"]["data"] | {"source": source}
        stages = {
            stage: {"params": {"params.yaml": {f"data.{key}": data[key] for key in keys}}, "outs": [listed]}
            for stage, keys in {"download": ("dataset", "source"), "preprocess": ("dataset", "image_size")}.items()
        }
        Path("dvc.lock").write_text(json.dumps({"stages": stages}))

    record("another")
    with pytest.raises(loading.OpenPrimary):
        load(text)
    record("mine")
    assert (load(text).plan.primary, load(text).hash) == (primary, known.hash)
    files.write_json(path, manifest | {"skipped": 1})  # not what dvc.lock says: of another checkout
    with pytest.raises(loading.OpenPrimary):
        load(text)


def test_common_keys_are_those_of_every_arm() -> None:
    common = load(STUDY.replace("arms:", "common: {train.steps: 7, train.batch_size: 32}\narms:"))
    assert {chosen.train.steps for chosen in common.configs.values()} == {7}
    spelled_out = STUDY.replace("{diff", "{train.steps: 7, train.batch_size: 32, diff")
    assert common.hash == load(spelled_out).hash != load(STUDY).hash
    own = load(STUDY.replace("arms:", "common: {train.steps: 7}\narms:").replace("linear}", "linear, train.steps: 9}"))
    assert [chosen.train.steps for chosen in own.configs.values()] == [7, 9]
    with pytest.raises(UserError, match="seed: every arm gets the same seeds"):
        load(STUDY.replace("arms:", "common: {seed: 7}\narms:"))


def test_a_question_cannot_control_the_terminal() -> None:
    assert load(STUDY.replace("Which schedule?", '"a\\e[31m\\nb"')).plan.question == r"a\x1b[31m b"


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        ("train.learning_rate=1e-3,2e-3", ["learning_rate_1e-3", "learning_rate_2e-3"]),
        ("train.horizontal_flip=true,false", ["horizontal_flip_true", "horizontal_flip_false"]),
        ("train.gradient_clip=1.0,null", ["gradient_clip_1_0", "gradient_clip_null"]),
    ],
)
def test_new_names_an_arm_in_words_where_its_value_is_not_a_word(vary: str, names: list[str]) -> None:
    assert study("new", "values", "--vary", vary, "--base", "digits_small") == 0
    assert list(loading.load(Path("studies/values.yaml")).plan.arms) == names


def test_new_writes_a_valid_study_and_overwrites_none(capsys: pytest.CaptureFixture[str]) -> None:
    vary = ("--vary", "diffusion.loss.name=simple,min_snr", "train.batch_size=64,128")
    assert study("new", "loss", *vary, "--base", "digits_small", "--looks", "8", "10") == 0
    found = loading.load(Path("studies/loss.yaml"))
    assert list(found.params) == ["simple_64", "simple_128", "min_snr_64", "min_snr_128"]
    assert found.configs["min_snr_128"].train.batch_size == 128
    assert found.plan.looks == (8, 10)
    before = Path("studies/loss.yaml").read_text()
    assert study("new", "loss", *vary) == 2
    assert "studies/loss.yaml: exists" in capsys.readouterr().err
    assert Path("studies/loss.yaml").read_text() == before


def test_new_takes_what_all_arms_have_in_common_and_says_what_is_open(capsys: pytest.CaptureFixture[str]) -> None:
    vary = ("--vary", "diffusion.loss.name=simple,min_snr")
    assert study("new", "mine", *vary, "--base", "photos_small", "--set", "data.source=studies", "train.steps=9") == 0
    path = Path("studies/mine.yaml")
    assert study("plan", "mine", "--no-pilot") == 2
    assert "error: studies/mine.yaml: primary: missing" in capsys.readouterr().err
    path.write_text(path.read_text().replace("# primary:", "primary:"))
    found = loading.load(path)
    assert found.plan.primary == "classifier.fd"
    assert {(each.data.source, each.train.steps) for each in found.configs.values()} == {("studies", 9)}
    assert study("plan", "mine", "--no-pilot") == 0
    for wrong in ("data.source", "=3", "data.sourc=x"):
        assert study("new", "other", *vary, "--set", wrong) == 2
        assert not Path("studies/other.yaml").exists()


def test_a_study_is_found_by_its_name_and_a_wrong_name_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies/schedules.yaml").write_text(STUDY)
    assert study("status", "schedules") == 0
    assert study("plan", "schedule", "--no-pilot") == 2
    [said] = capsys.readouterr().err.splitlines()
    assert "did you mean 'schedules'?" in said
    assert "preset" not in said


@pytest.mark.parametrize("command", [("plan", "--no-pilot"), ("run",)])
def test_images_that_are_not_there_are_missed_before_anything_runs(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    common = "common: {data.dataset.name: image_folder, data.source: nowhere}\nprimary: classifier.fd\n"
    Path("studies/a.yaml").write_text(f"{common}{STUDY}")
    study_project.commit("a study")
    assert study(command[0], "a", *command[1:]) == 2
    assert "studies/a.yaml: cosine: data.source: no such file or folder 'nowhere'" in capsys.readouterr().err
    assert study_project.ran() == []


@pytest.mark.parametrize(
    ("vary", "line"),
    [
        ("diffusion.loss.name", "--vary: diffusion.loss.name: allowed: a params key and its values"),
        ("diffusion.loss.name=simple", "arms"),
        ("diffusion.loss.name=simple,none", "unknown 'none'"),
        ("train.batch_size=64,64", "name the same arm twice"),
    ],
)
def test_new_refuses_what_is_no_study_and_writes_nothing(
    vary: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("new", "loss", "--vary", vary) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert line in said
    assert not Path("studies/loss.yaml").exists()


def test_plan_shows_names_lines_and_what_each_look_takes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("studies/a.yaml").write_text(STUDY)
    assert study("plan", "studies/a.yaml", "--no-pilot", "--slots", "3") == 0
    said = capsys.readouterr().out
    assert "   1 cosine-0" in said
    assert ["8", "seeds", "1-16", "16", "16", "-"] in [line.split()[:6] for line in said.splitlines()]
    assert study("plan", "studies/a.yaml", "--no-pilot", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiments"][23] | {"reason": None} == {
        "line": 24, "name": "linear-11", "arm": "linear", "seed": 11, "tried": None,
        "state": "missing", "reason": None,
    }  # fmt: skip
    assert found["cost"]["seconds"] is None
    assert study("plan", "studies/a.yaml", "--slots", "0") == 2
