"""Train, sample and evaluate use the params and files that they were started with, or they fail."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from ddpm.base.files import sha256
from ddpm.base.paths import MODEL_FILE, SAMPLES
from ddpm.compute.distributed import ALONE
from ddpm.params import config
from ddpm.tracking import tracker
from ddpm.training.checkpoints import Checkpoints
from stages import __main__ as runner
from stages import sample, train
from tests.command import imported
from tests.small import Memory
from tests.small_project import run_stage, set_params
from tests.tracked import all_runs as tracked


def model_seed() -> int:
    with safe_open("data/model/model.safetensors", "pt") as file:
        return int(json.loads(file.metadata()["ddpm"])["config"]["seed"])


@pytest.mark.slow
def test_params_that_change_while_a_stage_runs_are_refused(preprocessed, capfd):
    """In each stage, after an edit just after its start; with the params restored, the same command succeeds."""
    edits = {
        "train": ({"seed": 9}, "seed was 0", "is 9"),
        "sample": ({"sample": {"steps": 10}}, "sample.steps was 5", "is 10"),
        "evaluate": ({"evaluate": {"prc_neighborhood": 4}}, "evaluate.prc_neighborhood was 3", "is 4"),
    }
    assert run_stage("reference") == 0
    started = yaml.safe_load(Path("params.yaml").read_text())
    for stage, (edit, was, is_now) in edits.items():
        known = [run.info.run_id for run in tracked()] if stage != "train" else []
        capfd.readouterr()
        assert run_stage(stage, functools.partial(set_params, **edit)) == 2
        errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert all(part in errors[0] for part in (was, is_now, stage))
        (found,) = tracked()
        assert found.info.status == "FAILED"  # the first training
        assert not any(name.startswith(f"{stage}.") for name in found.data.metrics)
        assert "bits_per_dim" not in found.data.metrics
        assert found.data.params["seed"] == "0"
        assert model_seed() == 0
        model = sha256(Path("data/model/model.safetensors"))
        Path("params.yaml").write_text(yaml.safe_dump(started))
        capfd.readouterr()
        assert run_stage(stage) == 0
        if stage == "train":
            assert "resuming after step 20 of 20" in capfd.readouterr().err
        assert sha256(Path("data/model/model.safetensors")) == model
        (found,) = tracked()
        assert found.info.run_id in known or stage == "train"
    assert found.info.status == "FINISHED"
    assert found.data.metrics.keys() >= {"loss", "costs.images_seen", "classifier.fd", "bits_per_dim"}


@pytest.mark.slow
def test_nothing_is_credited_to_params_that_did_not_make_it(preprocessed, monkeypatch):
    """An edit while MLflow is written, which takes seconds, is refused; one after the stage's last look is found by
    the next stage, whether it runs or DVC's cache had its results."""
    started = Path("params.yaml").read_text()
    assert run_stage("reference") == 0
    with monkeypatch.context() as patch:
        patch.setattr(tracker.Live, "__exit__", lambda *_: set_params(seed=9))
        assert run_stage("train") == 2
    Path("params.yaml").write_text(started)
    assert run_stage("train") == run_stage("sample") == 0
    for stage, edit, code in (
        ("reference", {"data": {"split_seed": 1}}, 2),
        ("train", {"data": {"split_seed": 1}}, 2),
        ("evaluate", {"data": {"split_seed": 1}}, 2),
        ("evaluate", {"evaluate": {"kid_subset_size": 7}}, 2),
        ("evaluate", {"evaluate": {"batch_size": 63}}, 0),
        ("sample", {"train": {"learning_rate": 0.5}}, 2),
        ("evaluate", {"train": {"learning_rate": 0.5}}, 2),
        ("evaluate", {"sample": {"clip_denoised": False}}, 2),
        ("sample", {"train": {"checkpoint_every": 7}, "sample": {"batch_size": 63}}, 0),
    ):
        set_params(**edit)
        assert run_stage(stage) == code, edit
        Path("params.yaml").write_text(started)


@pytest.mark.slow
def test_stages_import_nothing_slow_that_they_do_not_need(preprocessed):
    """Nor does a training without a checkpoint need MLflow: evaluate writes all of its run."""
    set_params(train={"checkpoint_every": 21})
    scoring, compiler, mlflow = {"torchvision", "torch_fidelity"}, "torch._dynamo", "mlflow"
    unneeded = {"reference": {mlflow}, "train": scoring | {mlflow}, "sample": scoring | {compiler, mlflow}}
    for stage, modules in unneeded.items():
        assert not imported("-m", "stages", stage) & (modules | {"matplotlib", "sklearn"}), stage
    imported("-m", "stages", "evaluate")
    (found,) = tracked()
    assert found.info.status == "FINISHED"
    assert found.data.metrics.keys() >= {"loss", "costs.flops", "bits_per_dim"}


@pytest.mark.slow
def test_a_rank_that_has_loaded_other_code_than_its_launcher_saw_does_not_begin(preprocessed):
    """The code may be restored before the stage ends."""
    Path("data/reference").mkdir()
    _, start = runner.begin("train")
    start.digests["ddpm/compute"] = "as it was before an edit"
    Path("start.json").write_text(json.dumps(start))
    environment = {**os.environ, "DDPM_START": "start.json", "MASTER_ADDR": "127.0.0.1"}
    environment |= {"MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "DDPM_TRACKING": "off"}
    rank = subprocess.run(
        [sys.executable, "-m", "stages", "train"], env=environment, stderr=subprocess.PIPE, text=True, timeout=240
    )
    assert rank.returncode == 2, rank.stderr
    assert json.loads(Path("error").read_text())["line"].startswith("ddpm/compute: ")
    assert not Path("data/model").exists()


@pytest.mark.slow
def test_the_runner_cannot_change_a_value(preprocessed):
    """With MLflow and previews as it passes them, and without: the same model and the same samples."""
    set_params(train={"grid_every": 7})
    Path("data/reference").mkdir()
    assert run_stage("train") == 0
    assert run_stage("sample") == 0
    assert len(list(Path("data/model/grids").iterdir())) == 2
    by_runner = {path: sha256(path) for path in (MODEL_FILE, SAMPLES / "samples.npy")}
    settings, cpu = config.load(), torch.device("cpu")
    shutil.rmtree("data/model")
    shutil.rmtree("data/samples")
    train.main(settings.training(), cpu, ALONE, Checkpoints("alone"), Memory(), ())
    sample.main(settings.sample, cpu, ALONE)
    assert {path: sha256(path) for path in by_runner} == by_runner
