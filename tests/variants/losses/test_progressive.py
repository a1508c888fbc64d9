"""Progressive distillation: a step of the network is two of the model that it started from."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.compute import noise
from ddpm.diffusion.batch import NoisyBatch
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.parameterization import Prediction
from ddpm.diffusion.schedule import NoiseSchedule
from ddpm.params.config import Config
from ddpm.sampling import spacing
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from ddpm.variants.datasets.mixture import Mixture
from ddpm.variants.losses.progressive import Progressive
from ddpm.variants.samplers.ddim import DDIM
from tests.peers import exact
from tests.small import given, pictures, small

CPU = torch.device("cpu")
T = 1000


def drawn(denoise: object, schedule: NoiseSchedule, steps: int, x_T: Tensor) -> Tensor:
    """DDIM's images in that many steps, ``spacing: trailing``."""
    chain = Chain(schedule.respace(spacing.timesteps(schedule, steps, "trailing")), dtype=torch.float64)
    *_, x_0 = DDIM().steps(denoise, x_T, chain, lambda t: x_T, variant.build("variances", {"name": "fixed_small"}, "v"))
    return x_0


@pytest.mark.parametrize(("steps", "within"), [(1, 1e-9), (2, 1e-9), (4, 1e-9), (500, 1e-9), (7, 1e-2), (8, 1e-2)])
def test_what_is_taught_draws_the_teachers_images_in_half_its_steps(steps, within):
    """On a mixture with its exact denoiser as the teacher; if the chain does not divide evenly, nearly."""
    schedule = variant.build("schedules", {"name": "cosine"}, "s").noise_schedule(T)
    truth = exact.of(Mixture(components=3, size=(1, 2), ratio=0.6))
    teacher = exact.MixtureData(schedule, truth)
    chain = Chain(schedule, dtype=torch.float64)
    loss = Progressive(steps=steps)

    network = SimpleNamespace(chain=chain, teacher=lambda batch, x, t: teacher(x, int(t[0])))

    def student(x: Tensor, t: int) -> Prediction:
        batch = given(x, x, torch.full((len(x),), t - 1))
        start, end = loss.times(batch, T)
        assert int(start[0]) == t, "sampling visits where steps begin"
        return Prediction(*loss.target(network, batch, NoisyBatch(x, x, x, start, chain.at(start)), end))  # type: ignore[arg-type]

    x_T = noise.gaussian(0, "x_T", torch.arange(50), 0, tuple(truth.shape)).double()
    ours, theirs = drawn(student, schedule, steps, x_T), drawn(teacher, schedule, 2 * steps, x_T)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=within)
    assert steps == 500 or (drawn(teacher, schedule, steps, x_T) - theirs).abs().max() > 1e-3


def halving(model_file: Path, into: int, **train: object) -> Config:
    return small(
        diffusion={"loss": {"name": "progressive", "progressive": {"steps": into}}},
        train={"start_from": f"{model_file}@{sha256(model_file)}", **train},
    )


def test_a_training_comes_to_draw_as_its_teacher_does_in_twice_the_steps(model_file):
    trainer = Trainer(halving(model_file, 2, learning_rate=1e-3, steps=80).training(), pictures(), CPU)

    def images(steps: int) -> np.ndarray:
        options = small(sample={"steps": steps, "spacing": "trailing", "clip_denoised": False}).sample
        generator = Generator.of(trainer.student.start, options, CPU)
        return np.asarray(generator.images(range(24), 0, (1, 8, 8))).astype(float)

    theirs, before = images(4), images(2)
    for step in range(1, 81):
        trainer.step(step)
    trainer.student.start.network.load_state_dict(trainer.network.state_dict())
    after = images(2)
    assert np.abs(after - theirs).mean() < 0.7 * np.abs(before - theirs).mean()


def test_it_needs_a_model_to_start_from():
    with pytest.raises(UserError, match=r"train\.start_from: null .* progressive"):
        small(diffusion={"loss": {"name": "progressive"}})


def test_weights_for_an_objective_that_the_file_does_not_have_are_left_at_their_init_if_named(model_file):
    begun = {"start_from": f"{model_file}@{sha256(model_file)}"}
    sections = {"diffusion": {"loss": {"name": "shortcut"}}, "sample": {"sampler": {"name": "flow_map"}}}
    with pytest.raises(UserError, match=r"no span\.linear\.weight.* \[diffusion\.loss\]"):
        Trainer(small(train=begun, **sections).training(), pictures(), CPU)
    named = {**begun, "start_may_differ": ["diffusion.loss"]}
    assert Trainer(small(train=named, **sections).training(), pictures(), CPU).network.span
