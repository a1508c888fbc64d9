"""What a trained model, and what scores its images, does on the fake device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from ddpm.base.settings import Shape
from ddpm.diffusion.chain import from_images
from ddpm.evaluation import excess, likelihood, ode
from ddpm.evaluation.likelihood import Asked
from ddpm.model import architecture
from ddpm.model.file import Loaded
from ddpm.sampling import guidance
from ddpm.sampling.denoiser import Denoiser
from ddpm.sampling.generator import Generator
from ddpm.scoring import frechet, memorisation
from ddpm.use import edits
from ddpm.variants.extractors import classifier
from tests.fake_cuda.device import CUDA
from tests.small import pictures, small

IMAGES, TRAIN, BATCH, SEED = pictures(3), pictures(16), 2, 0  # so there is a whole batch, and one of a single image
CONFIG = small(sample={"steps": 3})
OTHER = {"weight": 2.0, "model": "worse.safetensors", "sha256": "0" * 64}


def model() -> Loaded:
    return Loaded(architecture.build(CONFIG.training()).eval().to(CUDA), CONFIG.training(), {})


def denoiser() -> Denoiser:
    return Denoiser(model().network, CONFIG.diffusion, CUDA, torch.float32, clip=False)


def edited(edit: Callable[[Generator, Tensor], Tensor]) -> Tensor:
    generator = Generator.of(model(), CONFIG.sample, CUDA)
    return edit(generator, from_images(torch.from_numpy(IMAGES).to(CUDA)))


def guided_by_another_model() -> Tensor:
    options, worse = small(sample={"steps": 3, "guidance": OTHER}).sample, model()
    with mock.patch.object(guidance, "load_worse", return_value=worse):
        generator = Generator.of(model(), options, CUDA)
    return deque(generator.trajectory(range(3), SEED, IMAGES.shape[1:]), maxlen=1).pop()


def inpainted() -> Tensor:
    unknown = torch.ones(IMAGES.shape[2:], dtype=torch.bool, device=CUDA)
    return edited(lambda generator, images: edits.inpaint(generator, images, unknown, SEED, rounds=2))


def varied() -> Tensor:
    return edited(lambda generator, images: edits.vary(generator, images, 0.5, SEED))


def interpolated() -> Tensor:
    """By way of inversion."""
    return edited(lambda generator, images: edits.interpolate(generator, images, 3))


def bound() -> object:
    schedule, variance = denoiser().chain.schedule, CONFIG.diffusion.variance
    return likelihood.bound(denoiser(), schedule, variance, Asked(IMAGES, BATCH, CUDA, SEED), 2)


def likelihood_by_the_ode() -> object:
    own = denoiser()
    return ode.bits_per_dim(own.differentiable, own.chain.schedule, Asked(IMAGES, BATCH, CUDA, SEED), 2)


def smallest_error() -> object:
    gallery = excess.Gallery(TRAIN, np.arange(len(TRAIN)))
    return excess.errors(denoiser().chain.schedule, gallery, Asked(IMAGES, BATCH, CUDA, SEED), 2)


def nearest_train_images() -> object:
    return memorisation.nearest(IMAGES, TRAIN, CUDA)


def frechet_distances() -> object:
    distance = frechet.Distance(np.zeros(4), np.eye(4), CUDA)
    return frechet.extrapolate(torch.zeros(64, 4, dtype=torch.float64, device=CUDA), distance)


def fitted_classifier() -> Tensor:
    network = classifier.Network(Shape.of(1, 8), 3).to(CUDA)
    fitting = classifier.Classifier(epochs=1, min_steps=2, batch_size=8)
    for _ in fitting._steps(network, TRAIN, np.arange(len(TRAIN)) % 3, fitting._length(len(TRAIN)), CUDA):
        pass
    return network.head.weight


USES: dict[str, Callable[[], object]] = {
    use.__name__: use
    for use in (
        guided_by_another_model,
        inpainted,
        varied,
        interpolated,
        bound,
        likelihood_by_the_ode,
        smallest_error,
        nearest_train_images,
        frechet_distances,
        fitted_classifier,
    )
}
