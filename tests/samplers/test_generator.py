"""From a model to images: what holds for every sampler and spacing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.model import build
from ddpm.model.model_file import Loaded
from ddpm.params.config import Config
from ddpm.sampling.generator import Generator
from ddpm.sampling.spacing import SPACINGS
from tests.small import PARAMS, small

CPU = torch.device("cpu")


def generator(**sample: Any) -> Generator:
    """An untrained network without zero initialisation, with the default schedule."""
    config = _config(**sample)
    torch.manual_seed(0)
    return Generator.of(Loaded(build.network(config).eval(), config.training(), {}), config.sample, CPU)


def _config(**sample: Any) -> Config:
    unet = {**PARAMS["model"]["unet"], "zero_init": False}
    return small(model={"name": "unet", "unet": unet}, sample=sample)


# every sampler, and every spacing: the one does not know the other
PAIRS = dict.fromkeys(
    [*((name, "uniform") for name in variant.names("samplers")), *(("ddim", spacing) for spacing in SPACINGS)]
)


@pytest.mark.parametrize(("name", "spacing"), PAIRS)
def test_an_image_depends_on_the_seed_and_its_index_alone(name: str, spacing: str) -> None:
    made = generator(sampler={"name": name}, spacing=spacing)
    together = made.images([0, 1, 2, 3], 7, (1, 8, 8))
    apart = torch.cat([made.images([2, 0], 7, (1, 8, 8)), made.images([3], 7, (1, 8, 8))])
    # a batch's size may change a float's last digit, and so a pixel's rounding
    assert (together[[2, 0, 3]].int() - apart.int()).abs().max() <= 1
    assert together.float().std() > 10
    assert not torch.equal(together, made.images([0, 1, 2, 3], 8, (1, 8, 8)))


def test_the_trajectory_runs_from_pure_noise_to_the_image() -> None:
    states = list(generator(steps=6).trajectory([0, 1], 7, (1, 8, 8)))
    assert len(states) == 7
    assert states[0].std() == pytest.approx(1, abs=0.2)
    assert all(state.dtype == torch.float32 for state in states)
    assert states[-1].abs().max() <= 1.001, "clip_denoised"


def test_a_model_of_a_shorter_chain_is_refused() -> None:
    config = _config()
    model = Loaded(build.network(config), config.training(), {})
    with pytest.raises(UserError, match="steps: 51 must be at most the model's T = 50"):
        Generator.of(model, config.sample.model_copy(update={"steps": 51}), CPU)
