"""Snapshots of a training, and their scores: from the trainer to metrics/curve.csv."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

from ddpm.base import paths
from ddpm.base.files import flatten, read_json
from ddpm.compute.distributed import ALONE
from ddpm.evaluation import evaluation
from ddpm.model.model_file import load_model
from ddpm.runs.record import Provenance
from ddpm.scoring.reference import load_features
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import train
from stages import evaluate, sample
from stages import train as train_stage
from tests.small import CPU, Memory, pictures, small

pytestmark = pytest.mark.usefixtures("folder")


def run(config, out: str) -> Path:
    checkpoints = Checkpoints("run")
    train(config.training(), pictures(), CPU, Path(out), checkpoints, Memory())
    checkpoints.finish()  # as the stage does once its result is certain to be kept
    return Path(out)


def test_a_snapshot_is_the_model_that_a_training_to_that_point_ends_with_and_changes_no_later_byte():
    """But for the config in it: constant rate and average make each point a fair end."""
    plain, out = run(small(), "plain"), run(small(train={"snapshots": [16, 64, 96]}), "out")
    assert sorted(path.name for path in (out / "snapshots").iterdir()) == ["0000016.safetensors", "0000064.safetensors"]
    assert [path.name for path in (plain / "snapshots").iterdir()] == ["none.txt"]  # an out of the stage
    shorter = load_model(run(small(train={"steps": 8}), "short") / "model.safetensors", CPU)
    snapshot = load_model(out / "snapshots/0000064.safetensors", CPU)
    assert snapshot.facts == shorter.facts
    assert snapshot.written["train"]["snapshots"] == [16, 64, 96]
    ends = [load_model(folder / "model.safetensors", CPU) for folder in (plain, out)]
    for one, other in ((shorter, snapshot), ends):
        weights = other.network.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in one.network.state_dict().items())


@pytest.mark.slow
def test_the_curve_has_each_snapshot_and_ends_with_the_models_own_scores(digits, classifier_reference, monkeypatch):
    unet = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
    config = small(
        data={"image_size": 16},
        model={"unet": unet},
        train={"snapshots": [16, 48]},
        sample={"count": 200, "seeds": [3, 5], "batch_size": 200, "steps": 2},
        evaluate={"extractors": ["classifier"], "kid_subsets": 5, "kid_subset_size": 50, "likelihood": {"images": 0}},
    )
    Path("data").mkdir()
    paths.PROCESSED.symlink_to(digits)
    shutil.copytree(classifier_reference, paths.REFERENCE)
    opened: list[str] = []
    monkeypatch.setattr(
        evaluation, "load_features", lambda at, name, on: opened.append(name) or load_features(at, name, on)
    )
    train_stage.main(config.training(), CPU, ALONE, Checkpoints("run"), Memory(), ())
    sample.main(config.sample, CPU, ALONE)
    evaluate.main(config.evaluate, config.sample, CPU, ALONE, Provenance(config.flat(), {}), "run")
    assert opened == ["classifier"]  # the real images' features, for all points
    scores = flatten(read_json(paths.EVALUATE))
    with paths.CURVE.open(newline="") as file:
        first, second, last = list(csv.DictReader(file))
    assert [int(row.pop("images")) for row in (first, second, last)] == [16, 48, 96]
    with (paths.METRICS / "scores.csv").open(newline="") as file:
        assert {"seed", *last} == set(next(csv.reader(file)))
    assert {name: float(score) for name, score in last.items()} == {name: scores[name] for name in last}
    assert first["classifier.fd"] != second["classifier.fd"] != last["classifier.fd"]
    # the model's own way for a snapshot, as if it were the model: the same sets, the same scores
    snapshot = paths.SNAPSHOTS / "0000048.safetensors"
    paths.MODEL_FILE.write_bytes(snapshot.read_bytes())
    shutil.rmtree(paths.SNAPSHOTS)
    drawn = {path.name: path.read_bytes() for path in (paths.SAMPLES / "snapshots/0000048").iterdir()}
    shutil.rmtree(paths.SAMPLES)
    sample.main(config.sample, CPU, ALONE)
    assert drawn == {path.name: path.read_bytes() for path in paths.SAMPLES.glob("samples*.npy")}
    evaluate.main(config.evaluate, config.sample, CPU, ALONE, Provenance(config.flat(), {}), "run")
    with paths.CURVE.open(newline="") as file:
        (alone,) = csv.DictReader(file)
    assert alone == {"images": "48", **second}
