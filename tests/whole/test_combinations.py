"""What is on the shelves works together: every pair of variants of different families, trained and drawn from."""

import math
from functools import cache, partial
from itertools import product

import pytest
import torch

from ddpm.model.model_file import Loaded
from ddpm.sampling.generator import Generator
from ddpm.training.trainer import Trainer
from tests.shelves import SHELVES, STEPS, config_of, covering_rows
from tests.small import build, mean_loss, pictures

rows = cache(partial(covering_rows, 2, seed=0))


@pytest.mark.long
def test_only_these_pairs_are_never_allowed():
    apart = {frozenset([("optimizer", "schedule_free"), ("ema", ema)]) for ema in SHELVES["ema"] if ema != "off"}
    losses = {name: build("losses", name) for name in SHELVES["loss"]}
    learns = {name: loss.learns for name, loss in losses.items()}
    needs = {name: build("samplers", name).needs for name in SHELVES["sampler"]}
    guided, maps = ("weight", 2.0), [name for name in needs if needs[name] != "denoiser"]
    apart |= {
        frozenset([("loss", loss), ("sampler", name)])
        for loss, name in product(learns, needs)
        if needs[name] not in learns[loss]
    }
    apart |= {
        frozenset([("loss", name), ("variance", one)])
        for name, one in product(losses, SHELVES["variance"])
        if build("variances", one).outputs not in losses[name].outputs
    }
    apart |= {frozenset([("sampler", name), ("variance", "learned_range")]) for name in maps}  # whose losses train none
    apart |= {frozenset([guided, ("sampler", name)]) for name in maps} | {frozenset([guided, ("loss", "consistency")])}
    signed = [name for name, loss in losses.items() if loss.signed]
    apart |= {frozenset([("loss", loss), ("timestep_sampler", "loss_second_moment")]) for loss in signed}
    assert set(rows()[1]) == apart | {frozenset([("classes", 0), guided])}


@pytest.mark.long
@pytest.mark.parametrize("schedule", SHELVES["schedule"])
def test_every_pair_trains_and_draws(schedule):
    for row in (row for row in rows()[0] if row["schedule"] == schedule):
        config = config_of(row)
        images = pictures(16)
        labels = torch.arange(16).numpy() % 3 if row["classes"] else None
        trainer = Trainer(config.training(), images, torch.device("cpu"), labels=labels)
        before = mean_loss(trainer)
        for step in range(1, STEPS + 1):
            trainer.step(step)
            if step % 8 == 0 and mean_loss(trainer) < before:
                break
        assert mean_loss(trainer) < before < math.inf, row
        model = Loaded(trainer.student.network.eval(), config.training(), {})
        drawn = Generator.of(model, config.sample, trainer.device).images(range(3), 0)
        assert drawn.shape == (3, 1, 8, 8), row
