"""Runs are found wherever they were recorded, once each, and never under params that they did not run with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ddpm.compare import snapshots
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from ddpm.base.errors import UserError
from ddpm.base.files import flatten
from ddpm.cli import commands
from ddpm.params import config
from ddpm.params.credit import Miscredited
from ddpm.runs import alike as runs
from ddpm.runs.alike import Run
from ddpm.tracking.store import SETTINGS
from ddpm.verdicts import metrics
from tests.scored import CODE, Experiment, git, grid, md5, params, record, reference, result, working

BY = ("diffusion.schedule.name",)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository without a commit; tracking is off."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "DVC_ROOT", *SETTINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    record(tmp_path, [])
    return tmp_path


@pytest.fixture
def store(folder: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    (folder / "mlflow.db").write_bytes(empty_store)
    for name in ("DDPM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    client.create_experiment("ddpm")
    return client


def log(client: MlflowClient, experiment: Experiment, tags: dict[str, str] | None = None) -> None:
    """Log the run that the stages would log for this experiment."""
    files = {path: json.loads(text) for path, text in experiment.contents().items() if path.endswith(".json")}
    stages = {stage: files[f"metrics/{stage}.json"] for stage in ("train", "sample")}
    scores = flatten(files["metrics/evaluate.json"] | stages)
    numbers = {name: value for name, value in scores.items() if not isinstance(value, str)}
    plain = working(**experiment.params).flat()
    made = client.create_run(client.get_experiment_by_name("ddpm").experiment_id, run_name=f"run-{experiment.name}")
    client.log_batch(
        made.info.run_id,
        [Metric(name, value, 0, 0) for name, value in {**numbers, "loss": 0.1, "system/cpu": 3.0}.items()],
        [Param(name, value if isinstance(value, str) else json.dumps(value)) for name, value in plain.items()],
        [RunTag(key, value) for key, value in (TAGS if tags is None else tags).items()],
    )


TAGS = {
    "ddpm.fingerprint": "f" * 64,
    "ddpm.fingerprint_without_sampling": "e" * 64,
    "ddpm.sampling_precision": "float32",
    "ddpm.training_precision": "float32",
    "ddpm.processor": "a CPU",
    "ddpm.code": json.dumps(CODE),
}


def names(found: runs.Gathered) -> set[str]:
    return {run.name for run in found.runs}


# --- DVC's experiments


@pytest.mark.parametrize(
    ("stage", "edit"),
    [
        ("train", {"train__learning_rate": 0.5}),
        ("sample", {"sample__clip_denoised": False}),
        ("evaluate", {"evaluate__kid_subsets": 7}),
    ],
)
def test_results_of_other_params_than_dvc_credits_are_refused(folder: Path, stage: str, edit: dict[str, Any]) -> None:
    """DVC records params as they are when a stage has gone: an edit just before gives a dvc.lock like this one."""
    mechanical = {"train__checkpoint_every": 7, "sample__batch_size": 3, "evaluate__batch_size": 3}
    right, wrong = Experiment("right", made_by=mechanical), Experiment("wrong", params=edit, made_by={})
    record(folder, [right, wrong])
    found = runs.gather()
    assert [run.name for run in found.runs] == ["right"]
    assert f"dvc repro --force {stage}" in found.notes[0]
    wrong.write(folder)
    Path("dvc.yaml").write_text("stages: {}")
    for check in (snapshots.check_metrics, lambda: commands.summary(json=True)):
        with pytest.raises(Miscredited, match=stage):
            check()


def test_an_experiment_is_read_from_git(folder: Path) -> None:
    record(folder, [Experiment("linear-3", 0.5, {"diffusion__schedule": {"name": "linear"}, "seed": 3}, when=1234)])
    (found,) = runs.gather().runs
    expected = result("linear", 3, scores={"classifier.fd": 0.5, "classifier.kid_mean": 0.005}, when=1234.0)
    assert found == expected
    assert found.params["diffusion.schedule.linear.beta_end"] == 0.02  # a default


def test_a_hundred_experiments_are_read(folder: Path) -> None:
    record(folder, grid({"cosine": 1, "linear": 2}, range(50)))
    assert len(runs.gather().runs) == 100


def test_stashes_and_locks_beside_the_experiments_are_none(folder: Path) -> None:
    record(folder, [Experiment("a")])
    for name in ("stash", "exec/EXEC_HEAD", "celery/stash"):
        git("update-ref", f"refs/exps/{name}", reference("a"))
    assert names(runs.gather()) == {"a"}


def test_experiments_of_a_project_below_the_repositorys_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = {f"project/{path}": text for path, text in Experiment("x").contents().items()}
    record(folder, [Experiment("a", files={**dict.fromkeys(Experiment("x").contents()), **below})])
    (folder / "project").mkdir()
    monkeypatch.chdir(folder / "project")
    assert names(runs.gather()) == {"a"}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"params.yaml": None}, "params.yaml is missing"),
        ({"metrics/fingerprint.json": None}, "metrics/fingerprint.json is missing"),
        ({"dvc.lock": None}, "no dvc.lock"),
        ({"dvc.lock": "stages: [1"}, "dvc.lock can't be read"),
        ({"dvc.lock": "stages: [1]"}, "dvc.lock can't be read"),
        ({"params.yaml": "seed: [1"}, "params.yaml: not valid YAML"),
        ({"metrics/evaluate.json": "{"}, "metrics/evaluate.json is not what stage evaluate wrote"),
    ],
)
def test_a_broken_experiment_is_left_out_and_named(folder: Path, files: dict[str, str | None], reason: str) -> None:
    record(folder, [Experiment("whole"), Experiment("broken", 2.0, {"seed": 1}, files=files)])
    found = runs.gather()
    assert names(found) == {"whole"}
    assert [note for note in found.notes if note.startswith(f"left out broken: {reason}")]


@pytest.mark.parametrize(
    "texts",
    [
        {"metrics/evaluate.json": "{"},
        {"metrics/evaluate.json": "[1]"},
        {"metrics/evaluate.json": '{"classifier": {"fd": "low"}}'},
        {"metrics/fingerprint.json": "{}"},
        {"metrics/fingerprint.json": '{"hash": 3}'},
        {"metrics/train.json": '{"images_seen": "many"}'},
        {"metrics/sample.json": "[]"},
    ],
)
def test_metrics_that_make_no_sense_are_left_out(folder: Path, texts: dict[str, str]) -> None:
    lock = Experiment("x").contents()["dvc.lock"]
    for path, text in texts.items():
        lock = lock.replace(md5(Experiment("x").contents()[path]), md5(text))
    record(folder, [Experiment("whole", params={"seed": 1}), Experiment("broken", files={**texts, "dvc.lock": lock})])
    found = runs.gather()
    assert names(found) == {"whole"}
    assert found.notes[0].startswith("left out broken: its metrics/ can't be read: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"train__learning_rate": 0.25},
        {"diffusion__schedule": {"name": "linear"}},
        {"model__unet__multipliers": [1, 4]},
        {"train__channels_last": True},
    ],
)
def test_scores_are_never_taken_for_those_of_params_that_did_not_run(folder: Path, changes: dict[str, Any]) -> None:
    lock = Experiment("x").contents()["dvc.lock"]
    record(folder, [Experiment("whole"), Experiment("stale", 2.0, changes, {"dvc.lock": lock})])
    found = runs.gather()
    assert names(found) == {"whole"}
    assert found.notes[0].startswith("left out stale: stage evaluate ran with another ")


def test_a_change_that_no_score_depends_on_leaves_scores_valid(folder: Path) -> None:
    """Only the check stage is recorded with all params."""
    run = Experiment("x")
    lock = yaml.safe_load(run.contents()["dvc.lock"])
    lock["stages"] = {"check": {"params": {"params.yaml": params(gate={"k": 5.0})}}} | lock["stages"]
    record(folder, [Experiment("whole", files={"dvc.lock": yaml.safe_dump(lock)})])
    assert names(runs.gather()) == {"whole"}


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"data/model/model.safetensors": "a" * 32}, ""),
        ({"data/model/model.safetensors": "b" * 32}, "stage sample ran with another data/model/model.safetensors"),
        ({"data/model": "12" + "3" * 30 + ".dir"}, "stage sample ran with another data/model/model.safetensors"),
    ],
)
def test_scores_are_left_out_unless_dvc_lock_says_that_they_are_of_its_model(
    folder: Path, made: dict[str, str], reason: str
) -> None:
    """The second is as after ``dvc exp run -S train.learning_rate=... train``, which samples and evaluates nothing.

    The third needs the cache's record of a folder, and here there is no cache, or ``dvc cache dir`` moved it.
    """
    lock = yaml.safe_load(Experiment("x").contents()["dvc.lock"])
    lock["stages"]["train"] = {"outs": [{"path": path, "md5": md5} for path, md5 in made.items()]}
    lock["stages"]["sample"] = {"deps": [{"path": "data/model/model.safetensors", "md5": "a" * 32}]}
    record(folder, [Experiment("a", params={"seed": 1}), Experiment("b", files={"dvc.lock": yaml.safe_dump(lock)})])
    found = runs.gather()
    assert names(found) == ({"a"} if reason else {"a", "b"})
    assert [note.startswith(f"left out b: {reason}") for note in found.notes] == ([True] if reason else [])


@pytest.mark.parametrize("out", ["metrics/evaluate.json", "metrics/fingerprint.json"])
def test_scores_that_no_stage_of_dvc_lock_made_are_left_out(folder: Path, out: str) -> None:
    lock = yaml.safe_load(Experiment("x").contents()["dvc.lock"])
    stage = lock["stages"]["evaluate"]
    stage["outs"] = [each for each in stage["outs"] if each["path"] != out]
    record(folder, [Experiment("a", params={"seed": 1}), Experiment("b", files={"dvc.lock": yaml.safe_dump(lock)})])
    found = runs.gather()
    assert names(found) == {"a"}
    assert found.notes == (f"left out b: dvc.lock does not say that a stage made {out}",)


@pytest.mark.parametrize("spelled", ["1e-5", "0.00001", "10.0E-6"])
def test_dvcs_spelling_of_a_number_is_no_other_number(folder: Path, spelled: str) -> None:
    changes = {"train__learning_rate": 1e-5}
    text = Experiment("x", params=changes).contents()["params.yaml"]
    files: dict[str, str | None] = {"params.yaml": text.replace("1.0e-05", spelled)}
    assert files["params.yaml"] != text
    record(folder, [Experiment("a", params=changes, files=files)])
    assert names(runs.gather()) == {"a"}


def test_a_word_that_yaml_1_1_takes_for_a_boolean_stays_a_word(folder: Path) -> None:
    made = Experiment("a", params={"train__ema": {"name": "off"}})
    contents = made.contents()
    unquoted: dict[str, str | None] = {
        path: contents[path].replace("'off'", "off") for path in ("params.yaml", "dvc.lock")
    }
    record(folder, [replace(made, files=unquoted)])
    assert runs.gather().runs[0].params["train.ema.name"] == "off"


def test_a_repository_without_a_scored_run_says_how_to_make_one(folder: Path) -> None:
    with pytest.raises(UserError, match="no scored run: none in DVC's experiments, metrics/ and MLflow; `dvc exp run"):
        runs.gather()


def test_outside_a_repository_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"not a git repository.*; run this in the project's clone"):
        runs.gather()


def test_a_run_is_of_the_code_of_the_stages_that_make_and_score_its_model(folder: Path) -> None:
    lock = yaml.safe_load(Experiment("x").contents()["dvc.lock"])
    deps = {
        "ddpm/variants/schedules/linear.py": "1" * 32,
        "stages/train.py": "2" * 32,
        "ddpm/variants/extractors": "3" * 32 + ".dir",
    }
    lock["stages"]["train"] = {"deps": [{"path": path, "md5": md5} for path, md5 in deps.items()]}
    lock["stages"]["download"] = {"deps": [{"path": "ddpm/sources/archives.py", "md5": "4" * 32}]}
    record(folder, [Experiment("a", files={"dvc.lock": yaml.safe_dump(lock)})])
    (found,) = runs.gather().runs
    assert found.code == CODE | {path: digest[:12] for path, digest in deps.items()}


def test_a_run_whose_stages_ran_with_different_code_is_left_out(folder: Path) -> None:
    lock = yaml.safe_load(Experiment("x").contents()["dvc.lock"])
    lock["stages"]["train"] = {"deps": [{"path": "ddpm/training", "md5": "1" * 32}]}
    record(folder, [Experiment("a", params={"seed": 1}), Experiment("b", files={"dvc.lock": yaml.safe_dump(lock)})])
    found = runs.gather()
    assert names(found) == {"a"}
    assert found.notes == ("left out b: stage evaluate ran with another ddpm/training than a stage before it",)


def test_the_same_scores_by_other_code_are_another_run(folder: Path) -> None:
    record(folder, [Experiment("a"), Experiment("b", code={"ddpm/training": "another"})])
    assert names(runs.gather()) == {"a", "b"}


# --- the working folder


def test_the_working_folder_counts_where_it_is_no_experiment_yet(folder: Path) -> None:
    applied, fresh = Experiment("applied"), Experiment("fresh", 2.0, {"seed": 5})
    record(folder, [applied])
    applied.write(folder)
    assert names(runs.gather()) == {"applied"}
    fresh.write(folder)
    assert names(runs.gather()) == {"applied", "workspace"}


def test_a_working_folder_whose_params_were_set_since_is_left_out(folder: Path) -> None:
    record(folder, [Experiment("a")])
    Experiment("b", 2.0).write(folder)
    (folder / "params.yaml").write_text(Experiment("b", 2.0, {"seed": 9}).contents()["params.yaml"])
    found = runs.gather()
    assert names(found) == {"a"}
    assert found.notes == ("left out workspace: stage evaluate ran with another seed than params.yaml says",)


# --- MLflow


def test_a_logged_run_is_the_experiment_that_logged_it(store: MlflowClient, folder: Path) -> None:
    experiment = Experiment("linear-3", 0.7, {"diffusion__schedule": {"name": "linear"}, "seed": 3})
    log(store, experiment)
    (alone,) = runs.gather().runs
    assert (alone.source, alone.name) == ("mlflow", "run-linear-3")
    record(folder, [experiment])
    (both,) = runs.gather().runs
    assert (both.source, both.name) == ("dvc", "linear-3")
    assert replace(alone, name=both.name, source=both.source, when=both.when) == both


def test_a_logged_run_tells_whether_it_copies_train_images(store: MlflowClient, folder: Path) -> None:
    scores = {"classifier": {"fd": 1.0}, "memorisation": {"pixels": {"share": 0.4, "limit": 0.14}}}
    log(store, Experiment("a", files={"metrics/evaluate.json": json.dumps(scores)}))
    (run,) = runs.gather().runs
    assert metrics.copied(run.scores) == ["pixels"]


@pytest.mark.parametrize("tag", ["", "{", "[]", '{"ddpm/compute/noise.py": 3}', "null"])
def test_a_logged_run_whose_code_cannot_be_read_is_left_out(store: MlflowClient, folder: Path, tag: str) -> None:
    record(folder, [Experiment("a")])
    log(store, Experiment("b", 2.0), TAGS | {"ddpm.code": tag})
    found = runs.gather()
    assert names(found) == {"a"}
    assert found.notes == ("left out run-b: its tag ddpm.code can't be read",)


def test_runs_that_are_nowhere_else_are_taken_from_mlflow(store: MlflowClient, folder: Path) -> None:
    record(folder, [Experiment("a")])
    log(store, Experiment("b", 2.0, {"seed": 1}))
    assert names(runs.gather()) == {"a", "run-b"}


def test_a_logged_run_without_a_fingerprint_or_of_other_params_is_left_out(store: MlflowClient, folder: Path) -> None:
    record(folder, [Experiment("a")])
    log(store, Experiment("old", 2.0), tags={})
    run_id = store.create_run(store.get_experiment_by_name("ddpm").experiment_id, run_name="strange").info.run_id
    store.log_batch(
        run_id, [Metric("x.fd", 1.0, 0, 0)], [Param("colour", "red")], [RunTag(*tag) for tag in TAGS.items()]
    )
    store.create_run(store.get_experiment_by_name("ddpm").experiment_id, run_name="unfinished")
    found = runs.gather()
    assert names(found) == {"a"}
    assert [note.partition(":")[0] for note in found.notes] == ["left out strange", "left out run-old"]


def test_reading_makes_no_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDPM_TRACKING")
    record(folder, [Experiment("a")])
    runs.gather()
    assert not (folder / "mlflow.db").exists()


# --- which match


def alike(*found: Run, by: tuple[str, ...] = (), **changes: Any) -> runs.Gathered:
    return runs.matching(found, working(**changes), by)


def test_runs_of_the_working_params_match_whatever_their_seed() -> None:
    found = alike(result(seed=2), result(seed=1), result("linear", seed=3))
    assert [run.seed for run in found.runs] == [1, 2]
    assert found.notes == ()


def test_what_varies_may_differ_with_its_hyperparameters() -> None:
    mild = result("linear", params={"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.01}}})
    assert len(alike(result(), mild, by=BY).runs) == 2


def test_blocks_of_what_is_not_chosen_do_not_count() -> None:
    block = {"diffusion__schedule": {"name": "cosine", "linear": {"beta_end": 0.01}}, "model__dit": {"depth": 2}}
    assert alike(result(params=block)).runs


def test_a_missing_hyperparameter_of_the_network_is_its_default() -> None:
    block = dict(params()["model"]["unet"])
    del block["blocks"], block["dropout"]  # 1 is not the default of blocks; 0.1 is the default of dropout
    assert alike(result(params={"model__unet": block | {"blocks": 1}})).runs
    with pytest.raises(UserError, match=r"differs in model.unet.blocks \(2 there, 1 here\)"):
        alike(result(params={"model__unet": block}))


@pytest.mark.parametrize("by", [(), BY])
def test_where_nothing_matches_the_nearest_run_is_named(by: tuple[str, ...]) -> None:
    near, far = result(params={"train__steps": 9}), result(seed=1, params={"train__steps": 9, "sample__steps": 3})
    with pytest.raises(UserError, match=r"the nearest, cosine-0, differs in train.steps \(9 there, 12 here\)$"):
        alike(far, near, by=by)


@pytest.mark.parametrize("order", [1, -1])
def test_of_runs_with_the_same_params_and_other_scores_the_newest_is_taken_and_said(order: int) -> None:
    old, new = result(fd=1, when=1.0, name="old"), result(fd=2, when=2.0, name="new")
    found = alike(*[old, new][::order])
    assert found.runs == (new,)
    assert found.notes == (
        "same params and other scores, by other code or data: old (dvc), new (dvc); the last is the newest: taken",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_of_other_code_the_run_of_the_code_that_is_checked_out_is_taken(folder: Path, order: int) -> None:
    Path("ddpm/compute").mkdir(parents=True)
    Path("ddpm/compute/noise.py").write_text("checked out")
    here = {"ddpm/compute/noise.py": md5("checked out")[:12]}
    ours = result(fd=1, when=1.0, name="ours", code=here)
    newer = result(fd=2, when=2.0, name="newer", code={"ddpm/compute/noise.py": "another"})
    found = alike(*[ours, newer][::order])
    assert found.runs == (ours,)
    assert found.notes == (
        "same params and other scores, by other code or data: newer (dvc), ours (dvc); the last is of "
        "the code that is checked out: taken",
    )


def test_every_mechanical_key_is_one() -> None:
    sections = config.Config.model_fields
    for key in runs.MECHANICAL:
        section, _, field = key.partition(".")
        assert section in sections
        assert not field or field in sections[section].annotation.model_fields
