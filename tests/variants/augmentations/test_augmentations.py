"""Every augmentation in the folder keeps the contract, and none leaks into samples."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.sections import Shape
from ddpm.compute import noise
from ddpm.training.trainer import Trainer
from tests.networks import SHAPES, architecture, awake
from tests.small import CPU, build, pictures, small

AUGMENTATIONS = pytest.mark.parametrize("name", variant.names("augmentations"))
OFF = {"flip_x": False, "flip_y": False, "translation": 0.0, "scale": 0.0, "rotation": 0.0, "anisotropy": 0.0}

augmentation = partial(build, "augmentations")


def only(**fields):
    """One transformation, to nearly every image."""
    return augmentation("non_leaking", p=0.999, **{**OFF, **fields})


def images(count: int = 40, shape: tuple[int, int, int] = (2, 6, 10)) -> Tensor:
    return noise.gaussian(0, "images", torch.arange(count), 0, shape).clamp(-1, 1)


def normals(made, count: int) -> Tensor:
    return noise.gaussian(3, "augmentation", torch.arange(count), 1, (made.draws,))


def augmented(made, x: Tensor) -> tuple[Tensor, Tensor]:
    return made(x, normals(made, len(x)))


@AUGMENTATIONS
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 4), (2, 2, 1), (2, 6, 10), (1, 9, 7)])
def test_images_keep_their_shape_and_range_and_one_without_a_condition_is_untouched(name, shape):
    made, x = augmentation(name), images(40, shape)
    found, condition = augmented(made, x)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert found.abs().max() <= 1
    assert condition.shape == (40, made.conditions)
    if not made.draws:
        assert torch.equal(found, x)
        return
    assert condition.dtype == torch.float32
    still = ~condition.any(dim=1)
    assert 0 < still.sum() < 40
    assert torch.equal(found[still], x[still])
    part = made(x[7:20], normals(made, 40)[7:20])  # an image depends on its own numbers alone
    torch.testing.assert_close(part, (found[7:20], condition[7:20]), rtol=0, atol=1e-6)


def test_flips_are_said_and_happen_to_half_of_p():
    x = images(400)
    for fields, axis, column in (({"flip_x": True}, 3, 0), ({"flip_y": True}, 2, 1)):
        found, condition = augmented(only(**fields), x)
        flipped = condition[:, column] == 1
        assert 150 < flipped.sum() < 250
        assert torch.equal(found[flipped], x[flipped].flip(axis))
        assert torch.equal(found[~flipped], x[~flipped])
        assert not condition[:, [c for c in range(9) if c != column]].any()


def test_shifts_are_whole_pixels_that_the_condition_says_and_mirror_what_comes_in():
    x = images(60)
    found, condition = augmented(only(translation=0.5), x)
    assert condition.abs().max() <= 1
    for each, before, said in zip(found, x, condition, strict=True):
        right, down = round(float(said[2]) * 5), round(float(said[3]) * 3)
        padded = torch.nn.functional.pad(before[None], (5, 5, 5, 5), mode="reflect")[0]
        assert torch.equal(each, padded[:, 5 - down : 11 - down, 5 - right : 15 - right])
    assert len(condition[:, 2].unique()) == 11


WARPS = [({"scale": 0.2}, [4]), ({"rotation": 1.0}, [5, 6]), ({"anisotropy": 0.2}, [7, 8])]


@pytest.mark.parametrize(("fields", "columns"), WARPS)
def test_each_transformation_is_undone_by_what_the_condition_says(fields, columns):
    """A smooth image is changed, and then compared with its own formula at the places that the condition implies."""
    count, side = 30, 24
    axis = (torch.arange(side) + 0.5 - side / 2).double()
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def picture(x: Tensor, y: Tensor) -> Tensor:
        return (0.25 * x + 0.1 * y).sin() * 0.8

    found, condition = augmented(only(**fields), picture(x, y).float().expand(count, 1, side, side))
    assert not condition[:, [c for c in range(9) if c not in columns]].any()
    assert (condition[:, columns].abs().sum(1) > 0).sum() >= count - 2
    for image, said in zip(found[:, 0], condition.double(), strict=True):
        angle = torch.atan2(said[6], said[5] + 1)
        size, stretch = said[7:9].norm(), torch.atan2(said[8], said[7]) / 2
        scaled = torch.exp2(-0.2 * said[4])
        u = scaled * (angle.cos() * x + angle.sin() * y)
        v = scaled * (-angle.sin() * x + angle.cos() * y)
        along, across = stretch.cos() * u + stretch.sin() * v, -stretch.sin() * u + stretch.cos() * v
        along, across = along * torch.exp2(-0.2 * size), across * torch.exp2(0.2 * size)
        u, v = stretch.cos() * along - stretch.sin() * across, stretch.sin() * along + stretch.cos() * across
        inside = (u.abs() < side / 2 - 1) & (v.abs() < side / 2 - 1)
        torch.testing.assert_close(image.double()[inside], picture(u, v)[inside], rtol=0, atol=0.03)


@SHAPES
def test_every_network_sees_the_condition_and_zero_is_none(name, fields):
    torch.manual_seed(0)
    network = architecture(name, **fields).network(Shape(1, 16, 16), 1)
    awake(network).eval()
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([3, 900])
    layer = augmentation("non_leaking").layer(network.time_features)
    condition = torch.eye(2, 9)
    assert not torch.allclose(network(x, t, None, layer(condition)), network(x, t), rtol=0, atol=1e-4)
    assert torch.equal(network(x, t, None, layer(torch.zeros(2, 9))), network(x, t))


@pytest.fixture
def estimates(monkeypatch) -> list:
    """What the loss measures, batch by batch."""
    batches = []
    loss = type(small().diffusion.loss)
    monkeypatch.setattr(loss, "measure", lambda _, estimate: batches.append(estimate) or estimate.squared_error())
    return batches


def test_each_image_comes_with_what_was_done_to_it(estimates):
    train = {"augmentation": {"name": "non_leaking"}, "accumulate": 2}
    trainer = Trainer(small(train=train).training(), pictures(), CPU)
    made = trainer.config.train.augmentation
    numbers = noise.gaussian(trainer.seed, "augmentation", torch.arange(trainer.batch_size), 1, (made.draws,))
    x_0, condition = made(trainer.batches(1), numbers)
    shown: list[Tensor] = []
    trainer.student.network.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[3]))
    trainer.step(1)
    assert torch.equal(torch.cat([estimate.noisy.x_0 for estimate in estimates]), x_0)
    torch.testing.assert_close(torch.cat(shown), trainer.student.augmented(condition))


def test_an_image_gets_the_nearest_of_several_draws_of_its_noise(estimates):
    """Li et al. 2025: so a draw is nearer than the usual one, or it is that."""
    for draws in (1, 2, 3):
        Trainer(small(train={"noise_draws": draws, "batch_size": 64}).training(), pictures(64), CPU).step(1)
    nearest = [(each.noisy.epsilon - each.noisy.x_0).flatten(1).norm(dim=1) for each in estimates]
    for draws, (fewer, more) in enumerate(pairwise(nearest), 2):
        assert bool((more <= fewer).all())
        assert 0.5 / draws < float((more < fewer).double().mean()) < 1.5 / draws
    many = estimates[2].noisy
    torch.testing.assert_close(many.x_t, many.at.signal * many.x_0 + many.at.sigma * many.epsilon)


def test_the_layer_starts_as_in_edms_ddpmpp():
    """``map_augment`` of its SongUNet has the weights of all its layers, Xavier's: uniform, of variance 2 / (inputs +
    outputs)."""
    torch.manual_seed(0)
    layer = augmentation("non_leaking").layer(1000)
    (weight,) = layer.parameters()
    bound = math.sqrt(6 / (9 + 1000))
    quantiles = weight.detach().flatten().quantile(torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    torch.testing.assert_close(quantiles, bound * torch.tensor([-1, -0.5, 0, 0.5, 1]), rtol=0, atol=0.03 * bound)
