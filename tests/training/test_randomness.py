"""What Algorithm 1 draws: each purpose's numbers have their distribution, and none tells anything about another."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from ddpm.diffusion.batch import Batch
from ddpm.training.student import Student
from ddpm.training.trainer import Trainer
from tests.small import CPU, small

CLASSES, DROPPED, T, STEPS, PLACES = 2, 0.3, 50, 40, 64
SCALED = {"p": 0.9999, "flip_x": False, "flip_y": False, "translation": 0, "rotation": 0, "anisotropy": 0}


def numbers(batch: Batch, student: Student) -> dict[str, torch.Tensor]:
    """One number of each image of the batch for each purpose, (B,)."""
    noisy, draws = student.diffuse(batch, batch.t), batch.draws
    more = (noisy.x_t - noisy.at.signal * noisy.x_0) / noisy.at.sigma - noisy.epsilon
    found = {
        "training noise": noisy.epsilon[:, 0, 0, 0],
        "another pixel": noisy.epsilon[:, 0, 5, 2],
        "perturbation": more[:, 0, 0, 0],
        "another draw": draws.gaussian("train/1")[:, 0, 0, 0],
        "contrast": draws.gaussian("contrast")[:, 0, 0, 0],
        "augmentation": batch.condition[:, 4],
        "t": batch.t,
        "span": draws.uniform("mean flow"),
        "label": batch.labels == CLASSES,
        "flip": batch.x_0[:, 0, 0, 0] > batch.x_0[:, 0, 0, 7],
    }
    keys = {f"key {layer}": batch.dropout[:, layer, 0] for layer in range(batch.dropout.shape[1])}
    return {name: values.double() for name, values in (found | keys).items()}


def prepare(seed: int) -> Trainer:
    train = {"horizontal_flip": True, "batch_size": PLACES, "label_dropout": DROPPED, "input_perturbation": 0.1}
    train |= {"augmentation": {"name": "non_leaking", "non_leaking": SCALED}}
    config = small(train=train, model={"classes": CLASSES}).model_copy(update={"seed": seed})
    pictures = np.tile(np.linspace(255, 0, 8, dtype=np.uint8), (PLACES, 1, 8, 1))  # which falls unless it is flipped
    return Trainer(config.training(), pictures, CPU, labels=np.arange(PLACES) % CLASSES)


def draw(trainer: Trainer) -> dict[str, np.ndarray]:
    """The numbers of each purpose, (STEPS, PLACES)."""
    steps = [numbers(trainer.draw_batch(step)[2], trainer.student) for step in range(1, STEPS + 1)]
    return {name: torch.stack([step[name] for step in steps]).numpy() for name in steps[0]}


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    return draw(prepare(0))


def test_runs_of_two_seeds_have_nothing_in_common(drawn):
    ours, theirs = prepare(0), prepare(1)
    for name, values in draw(theirs).items():
        assert_unrelated(drawn[name], values, (name, "of two seeds"))
    assert not torch.equal(ours.batches.epoch(0), theirs.batches.epoch(0))
    assert not torch.equal(*(trainer.student.network.stem.weight for trainer in (ours, theirs)))


def assert_unrelated(one: np.ndarray, other: np.ndarray, names: object) -> None:
    related = abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * one.size**0.5
    assert related < 4.5, f"{names}: correlated, {related:.0f} standard errors"


def test_what_is_drawn_for_one_purpose_tells_nothing_about_another(drawn):
    for one, other in combinations(drawn, 2):
        assert_unrelated(drawn[one], drawn[other], (one, other))


def test_each_step_and_each_image_has_numbers_of_its_own(drawn):
    for name, values in drawn.items():
        for lag in (1, 2, 7):
            assert_unrelated(values[lag:], values[:-lag], (name, f"{lag} steps apart"))
            assert_unrelated(values[:, lag:], values[:, :-lag], (name, f"{lag} places apart"))
        spread = values.var(axis=0, ddof=1).mean() / values.var()  # 1 unless steps or images have something in common
        assert spread == pytest.approx(1, abs=0.1), name
        assert values.var(axis=1, ddof=1).mean() / values.var() == pytest.approx(1, abs=0.1), name


def test_each_purpose_has_its_distribution(drawn):
    for name in ("training noise", "another pixel", "another draw", "perturbation", "contrast", "augmentation"):
        sd = 0.1 if name == "perturbation" else 1.0
        assert stats.kstest(drawn[name].ravel() / sd, "norm").pvalue > 1e-3, name
    assert stats.chisquare(np.bincount(drawn["t"].ravel().astype(int), minlength=T + 1)[1:]).pvalue > 1e-3
    assert stats.kstest(drawn["span"].ravel(), "uniform").pvalue > 1e-3
    for name, share in (("label", DROPPED), ("flip", 0.5)):
        assert stats.binomtest(int(drawn[name].sum()), drawn[name].size, share).pvalue > 1e-3, name
