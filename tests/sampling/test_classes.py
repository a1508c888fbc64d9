"""Models that know classes: what they are shown, what they are asked for, and what becomes of it."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base.errors import UserError
from ddpm.data.processed import TrainClasses, open_split
from ddpm.evaluation import bounds
from ddpm.model.model_file import Loaded, load_model
from ddpm.sampling.classes import Classes, apportion
from ddpm.sampling.generator import Generator
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import Trainer, train
from tests.small import CPU, PARAMS, Memory, pictures, small

COUNT = 3


def config(**sections):
    unet = {**PARAMS["model"]["unet"], "dropout": 0.0}
    return small(**{**sections, "model": {"classes": COUNT, "unet": unet, **sections.get("model", {})}})


def labels(count: int = 30) -> np.ndarray:
    return np.arange(count) % COUNT


def trainer(**options) -> Trainer:
    return Trainer(config(train=options).training(), pictures(), CPU, labels=labels())


def test_a_label_is_the_images_own_or_dropped_on_any_rank_alike():
    found = trainer(label_dropout=0.4, batch_size=15)
    shown, own = found.draw_batch(3)[2].labels, found.batches.labels(3)
    dropped = shown == COUNT
    assert 0 < dropped.sum() < 15
    assert torch.equal(shown[~dropped], own[~dropped])
    found.batches.part = slice(3, 7)
    assert torch.equal(found.draw_batch(3)[2].labels, shown[3:7])


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Loaded:
    folder, checkpoints = tmp_path_factory.mktemp("classes"), Checkpoints("classes")
    checkpoints.folder = folder / "checkpoints"
    known = TrainClasses(("a", "b", "c"), (10, 10, 10), labels())
    options = config(train={"steps": 20, "learning_rate": 1e-2}).training()
    train(options, pictures(), CPU, folder, checkpoints, Memory(), classes=known)
    return load_model(folder / "model.safetensors", CPU)


def test_the_classes_make_a_difference_that_is_learned(model):
    before, after = trainer().student.network.classes.weight, model.network.classes.weight
    assert (after != before).any(1).all(), "each row, that of no class too"


def test_classes_come_in_their_shares_and_never_off_by_one():
    generator = np.random.default_rng(0)
    for _ in range(30):
        counts = generator.integers(0, 60, generator.integers(2, 12))
        counts[0] += 1
        drawn = np.array(list(islice(apportion(counts.tolist()), 500)))
        numbers = np.cumsum(drawn[:, None] == np.arange(len(counts)), axis=0)
        shares = np.arange(1, len(drawn) + 1)[:, None] * (counts / counts.sum())
        assert np.abs(numbers - shares).max() < 1


def test_a_class_depends_on_the_index_alone():
    counts = (3, 1, 2)
    whole = Classes((), counts)(range(100))
    assert Classes((), counts)([70, 3, 99]).tolist() == whole[[70, 3, 99]].tolist()
    assert np.bincount(whole[:60]).tolist() == [30, 10, 20]
    assert Classes((), counts, [2, 0])(range(5)).tolist() == [2, 0, 2, 0, 2]


@pytest.mark.parametrize(
    ("chosen", "expected"), [((2, "a"), [2, 0, 2]), (("c",), [2, 2, 2]), (("1", "2"), [1, 2, 1]), (None, [0, 1, 2])]
)
def test_classes_are_chosen_by_number_or_name(model, chosen, expected):
    found = Classes.of(model, chosen)
    assert found(range(3)).tolist() == expected


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("aa",), r"sample\.classes: no class 'aa' \(did you mean 'a'\?\); allowed: 0\.\.2.* a, b, c"),
        (("9" * 5000,), r"sample\.classes: no class '9999"),
    ],
)
def test_a_class_that_does_not_exist_is_refused(model, chosen, message):
    with pytest.raises(UserError, match=message):
        Classes.of(model, chosen)


def test_the_class_that_is_asked_for_changes_the_image_and_nothing_else_does(model):
    def draw(*chosen: int) -> Tensor:
        return Generator.of(model, config(sample={"classes": list(chosen)}).sample, CPU).images([0, 1], 7)

    assert torch.equal(draw(0, 1)[0], draw(0, 2)[0])
    assert not torch.equal(draw(0, 1)[1], draw(0, 2)[1])


def test_the_bound_is_given_the_class(digits, tmp_path):
    model = {"classes": 10, "unet": {**PARAMS["model"]["unet"], "attention_sizes": [], "zero_init": False}}
    settings = small(data={"image_size": 16}, model=model, evaluate={"likelihood": {"images": 6, "timesteps": 3}})
    asked: list[Tensor] = []

    class Heard(torch.nn.Module):
        def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None, _: None = None) -> Tensor:
            asked.append(labels)
            return torch.zeros_like(x_t)

    heard = Loaded(Heard(), settings.training(), {})
    bounds.likelihoods(bounds.Job(heard, digits, digits, settings.evaluate, CPU))
    _, labels = open_split(digits, "test")
    chosen = np.sort(np.random.default_rng(bounds.SEED).permutation(len(labels))[:6])
    assert asked[-1].tolist() == labels[chosen].tolist()


@pytest.mark.parametrize(
    "facts",
    [{"names": ["a"], "counts": [1, 1, 1]}, {"names": ["a", "b", "c"], "counts": [0, 0, 0]}, {"counts": [1]}, [], "x",
     {"names": ["a", "b", "c"], "counts": [1, 1, -1]}],
)  # fmt: skip
def test_a_file_that_lies_about_its_classes_is_refused(model, facts):
    with pytest.raises(UserError, match=r"^model file: facts\.classes"):
        Classes.of(model._replace(facts={"classes": facts}), None)
