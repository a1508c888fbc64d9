"""What evaluate.json and the files next to it report about a model and its sets of samples; and the scores of its
snapshots, from the trainer to metrics/curve.csv."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.base import paths
from ddpm.base.errors import UserError
from ddpm.base.files import digest, flatten, read_json
from ddpm.compute.distributed import ALONE
from ddpm.data.processed import open_split
from ddpm.evaluation import evaluation
from ddpm.evaluation.bounds import Job
from ddpm.evaluation.fingerprint import comparable
from ddpm.model.model_file import load_model
from ddpm.runs.record import Provenance
from ddpm.scoring import reference
from ddpm.scoring.evaluate_params import Evaluate, Likelihood
from ddpm.scoring.reference import load_features
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import train
from stages import evaluate as evaluate_stage
from stages import sample
from stages import train as train_stage
from tests import scoring_ranks
from tests.small import CPU, Memory, pictures, small

ROOT = Path(__file__).parents[2]
SETTINGS = scoring_ranks.SETTINGS


@pytest.fixture
def evaluate(digits, classifier_reference, tmp_path):
    """The evaluation of these sets by an untrained model."""

    def of(*sets: np.ndarray, settings: Evaluate = SETTINGS, **changes):
        files = {seed: tmp_path / f"{seed}.npy" for seed in range(len(sets))}
        for path, images in zip(files.values(), sets, strict=True):
            np.save(path, images)
        model = scoring_ranks.model()._replace(**changes)
        return evaluation.evaluate(files, Job(model, digits, classifier_reference, settings, CPU))

    return of


def spoiled(digits: Path, sd: float, seed: int = 0, count: int = 600) -> np.ndarray:
    """Train images with noise: samples of a model that is better the smaller ``sd`` is."""
    draw = np.random.default_rng(seed)
    train, _ = open_split(digits, "train")
    chosen = train[np.sort(draw.choice(len(train), count, replace=False))]
    return np.clip(chosen + draw.normal(0, sd, chosen.shape), 0, 255).round().astype(np.uint8)


def test_scores_are_the_mean_over_the_sets_and_each_set_has_its_row(evaluate, digits):
    sets = [spoiled(digits, 30, 0), spoiled(digits, 30, 1)]
    both, alone = evaluate(*sets), evaluate(sets[1])
    means = flatten({key: value for key, value in both.scores.items() if key not in ("real", "yardsticks")})
    assert [row["seed"] for row in both.sets] == [0, 1]
    row = {key: value for key, value in both.sets[1].items() if key != "seed"}
    assert row.items() <= flatten(alone.scores).items()
    assert means.keys() == both.sets[0].keys() - {"seed"}
    for key, value in means.items():
        column = [row[key] for row in both.sets]
        expected = np.hypot(*column) / 2 if key.endswith("_se") else np.mean(column)
        assert value == pytest.approx(float(expected)), key
    assert both.sets[0]["classifier.fd"] != both.sets[1]["classifier.fd"]
    assert not {key for key in both.scores if key.startswith("bits_per_dim")}  # which nobody asked for
    assert both.bound == []


@pytest.mark.slow
def test_two_ranks_share_the_work_and_say_what_one_says(digits, classifier_reference, tmp_path):
    for seed in (0, 1):
        np.save(tmp_path / f"{seed}.npy", spoiled(digits, 30, seed))
    for ranks in (1, 2):
        (tmp_path / str(ranks)).mkdir()
        torchrun = ["torchrun", "--standalone", f"--nproc-per-node={ranks}", "-m", "tests.scoring_ranks"]
        subprocess.run([*torchrun, tmp_path, digits, classifier_reference, tmp_path / str(ranks)], cwd=ROOT, check=True)
    one, *both = (json.loads(path.read_text()) for path in sorted(tmp_path.glob("*/calls-*")))
    assert one == sum(both) == 2 * 600
    assert max(both) < 0.6 * one
    assert len({path.read_text() for path in tmp_path.glob("*/scores-*")}) == 1


def test_yardsticks_are_scored_as_so_many_samples_and_real_images_too_where_there_are_more(evaluate, digits):
    few = SETTINGS.model_copy(update={"metrics": ("fid", "kid"), "kid_subset_size": 200})
    scores = {count: evaluate(spoiled(digits, 30, count=count), settings=few).scores for count in (200, 600)}
    for count, found in scores.items():
        kinds = {**found["yardsticks"], "real": found["real"]}
        assert kinds.keys() == {"gaussian", "class_gaussians", "real"}
        assert {kind: of["classifier"]["count"] for kind, of in kinds.items()} == {
            "gaussian": count, "class_gaussians": count, "real": min(count, 359)
        }  # fmt: skip
        for score in ("fd", "kid_mean"):
            values = [kinds[kind]["classifier"][score] for kind in ("real", "class_gaussians", "gaussian")]
            assert values == sorted(values), score
    assert scores[200]["real"]["classifier"]["fd"] > 0.2, "fewer images are further away: 359 have 0.178"


def test_the_likelihood_of_both_splits_is_there_when_it_is_asked_for(evaluate, digits):
    settings = SETTINGS.model_copy(update={"likelihood": Likelihood(images=6, timesteps=5)})
    found = evaluate(spoiled(digits, 30), settings=settings)
    for split, name in (("test", "bits_per_dim"), ("train", "bits_per_dim_train")):
        total = sum(row["steps"] * row[f"vlb_{split}"] for row in found.bound)
        assert found.scores[name] == pytest.approx(total)
        assert 0 < found.scores[f"{name}_se"] < found.scores[name]
    assert [row["t"] for row in found.bound[:2]] == [1, pytest.approx(3, abs=1.5)]
    assert found.bound[-1]["t"] == 51  # the prior, after the last step
    assert found.bound[-1]["mse_test"] == ""


def test_a_model_whose_likelihood_is_no_number_is_refused(evaluate, digits):
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            return x * torch.nan

    settings = SETTINGS.model_copy(update={"likelihood": Likelihood(images=2, timesteps=2)})
    with pytest.raises(UserError, match=r"evaluate: bits_per_dim"):
        evaluate(spoiled(digits, 30), settings=settings, network=Broken())


def fingerprint(folder: Path, settings: Evaluate = SETTINGS, drawn_in: str = "float32", **sample) -> str:
    """sample: changes to the params of sampling."""
    index = reference.read_reference(folder)
    options = small(sample={"count": 200, "steps": 49}).sample.model_copy(update=sample)
    found = comparable(index, settings, options, {"precision": drawn_in, "evaluations_per_image": 49})
    assert found["sets"] == len(options.seeds)
    return digest(found)


@pytest.mark.parametrize("change", [
    {"count": 201}, {"steps": 48}, {"ema_length": 0.05}, {"contrast": 0.1}, {"seeds": (0, 1)}, {"drawn_in": "bfloat16"},
    *({"settings": SETTINGS.model_copy(update=update)} for update in (
        {"kid_subset_size": 151}, {"prc_neighborhood": 4}, {"metrics": ("fid",)},
        {"likelihood": Likelihood(images=8)},
    )),
])  # fmt: skip
def test_what_changes_a_score_changes_the_fingerprint(classifier_reference, change):
    assert fingerprint(classifier_reference, **change) != fingerprint(classifier_reference)


def test_the_fingerprint_is_the_same_on_every_machine_and_of_models_of_any_precision(classifier_reference):
    own = fingerprint(classifier_reference)
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert fingerprint(classifier_reference, SETTINGS.model_copy(update={"batch_size": 7})) == own


@pytest.mark.parametrize("keys", [("manifest", "sha256", "train"), ("manifest", "sha256", "test"),
                                  ("extractors", "classifier", reference.WEIGHTS)])  # fmt: skip
def test_another_reference_has_another_fingerprint(classifier_reference, tmp_path, keys):
    index = json.loads((classifier_reference / "reference.json").read_text())
    index[keys[0]][keys[1]][keys[2]] = "0" * 64
    (tmp_path / "reference.json").write_text(json.dumps(index))
    assert fingerprint(tmp_path) != fingerprint(classifier_reference)


def run(config, out: str) -> Path:
    checkpoints = Checkpoints("run")
    train(config.training(), pictures(), CPU, Path(out), checkpoints, Memory())
    checkpoints.finish()  # as the stage does once its result is certain to be kept
    return Path(out)


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.usefixtures("folder")
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
@pytest.mark.usefixtures("folder")
def test_the_curve_has_each_snapshot_and_ends_with_the_models_own_scores(digits, classifier_reference, monkeypatch):
    unet = {"base_channels": 8, "multipliers": [1, 2], "blocks": 1, "attention_sizes": [], "groups": 4}
    scored = {"extractors": ["classifier"], "kid_subsets": 5, "kid_subset_size": 50, "likelihood": {"images": 0}}
    drawn = {"count": 200, "seeds": [3, 5], "batch_size": 200, "steps": 2}
    config = small(
        data={"image_size": 16}, model={"unet": unet}, train={"snapshots": [16, 48]}, sample=drawn, evaluate=scored
    )
    Path("data").mkdir()
    paths.PROCESSED.symlink_to(digits)
    shutil.copytree(classifier_reference, paths.REFERENCE)
    opened: list[str] = []
    monkeypatch.setattr(evaluation, "load_features", lambda *at: opened.append(at[1]) or load_features(*at))
    train_stage.main(config.training(), CPU, ALONE, Checkpoints("run"), Memory(), ())
    sample.main(config.sample, CPU, ALONE)
    evaluate_stage.main(config.evaluate, config.sample, CPU, ALONE, Provenance(config.flat(), {}), "run")
    assert opened == ["classifier"]  # the real images' features, for all points
    scores = flatten(read_json(paths.EVALUATE))
    first, second, last = read(paths.CURVE)
    assert [int(row.pop("images")) for row in (first, second, last)] == [16, 48, 96]
    assert {"seed", *last} == read(paths.METRICS / "scores.csv")[0].keys()
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
    evaluate_stage.main(config.evaluate, config.sample, CPU, ALONE, Provenance(config.flat(), {}), "run")
    assert read(paths.CURVE) == [{"images": "48", **second}]
