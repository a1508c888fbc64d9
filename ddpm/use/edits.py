"""Given images changed by a trained model: inpainted, varied, inverted to noise, interpolated.

Each is a short function of a ``Generator``. Images are (B, C, H, W) float32 in [-1, 1], as ``chain.from_images`` makes
them; image i's noise depends only on the seed and i. The network is shown the generator's classes, if it has any.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ddpm.compute import noise
from ddpm.diffusion.chain import Chain
from ddpm.diffusion.coefficients import q_sample
from ddpm.sampling.generator import Generator
from ddpm.sampling.sampler import levels

ROUNDS = 10  # RePaint's default number of resamplings
ITERATIONS = 8  # of the fixed point; the tests state what is left of the error


def inpaint(generator: Generator, images: Tensor, unknown: Tensor, seed: int, rounds: int = ROUNDS) -> Tensor:
    """``images`` with the ``unknown`` pixels, a bool (H, W), drawn by the model; the others stay as they are.

    RePaint, Lugmayr et al. 2022 (arXiv:2201.09865), Algorithm 1: after each step, the known pixels are replaced by
    noised ones of the image. Each step is taken ``rounds`` times, with a step of noise in between, so that the
    two parts come to agree. A multistep sampler starts over at each step.
    """
    chain, shape = generator.chain, images.shape[1:]
    index = torch.arange(len(images), device=images.device)
    x = noise.gaussian(seed, "x_T", index, 0, shape)
    for step in range(len(chain), 1, -1):
        below = _first(chain, step)
        beta = float(chain.schedule.beta[step - 1])
        for turn in range(rounds):
            x = next(_steps(generator, x, below, index, seed, f"inpaint/{turn}"))
            epsilon = noise.gaussian(seed, f"known/{turn}", index, step - 1, shape)
            x = torch.where(unknown, x, q_sample(images, epsilon, chain.at_step(step - 1)))
            if turn < rounds - 1:
                epsilon = noise.gaussian(seed, f"again/{turn}", index, step, shape)
                x = (1 - beta) ** 0.5 * x + beta**0.5 * epsilon
    x = next(_steps(generator, x, _first(chain, 1), index, seed, "inpaint"))
    return torch.where(unknown, x, images)


def vary(generator: Generator, images: Tensor, strength: float, seed: int) -> Tensor:
    """Images like the given ones: noised up to ``strength``, in (0, 1], of the chain, and denoised from there.

    SDEdit, Meng et al. 2021 (arXiv:2108.01073), Algorithm 1.
    """
    step = max(1, round(strength * len(generator.chain)))
    index = torch.arange(len(images), device=images.device)
    epsilon = noise.gaussian(seed, "vary", index, step, images.shape[1:])
    x = q_sample(images, epsilon, generator.chain.at_step(step))
    return _last(_steps(generator, x, _first(generator.chain, step), index, seed, "reverse"))


def invert(generator: Generator, images: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """x_T from which deterministic DDIM sampling returns the images. Song et al. 2020 (arXiv:2010.02502), section 4.3.

    DDIM's step from x_t uses the network at x_t, which inversion does not know yet: a fixed-point iteration finds it
    (Pan et al. 2023, arXiv:2309.04907). From the network it takes epsilon near the image and x_0 near the noise:
    whichever depends less on the guess, if the data has unit variance. At zero terminal SNR epsilon is the guess
    itself. Each level costs ``iterations`` evaluations. The generator must not clip.
    """
    x, denoise = images, generator.condition(range(len(images)))
    rising = levels(generator.chain.schedule)[::-1]
    for here, there in pairwise(rising):
        guess = x
        for _ in range(iterations):
            x_0, epsilon, _ = denoise(guess, there.t)
            if here.sigma * there.sigma <= here.signal * there.signal:
                x_0 = (x - here.sigma * epsilon) / here.signal
            else:
                epsilon = (x - here.signal * x_0) / here.sigma
            guess = there.signal * x_0 + there.sigma * epsilon
        x = guess
    return x


def decode(generator: Generator, x_T: Tensor, classes_of: Sequence[int] | None = None) -> Tensor:
    """The images that the generator's deterministic sampler draws from x_T, by default image i of its i-th class."""
    indices = range(len(x_T)) if classes_of is None else classes_of
    return _last(generator.reverse(indices, x_T, generator.chain, lambda t: torch.zeros_like(x_T)))


def interpolate(generator: Generator, images: Tensor, count: int) -> Tensor:
    """(B - 1, count, C, H, W): from each image to the next, both included, along the sphere of their noise. What is
    drawn has the class of the nearer one.

    Song et al. 2020 (arXiv:2010.02502), section 5.3. The generator's sampler must be deterministic and must not clip.
    """
    ends = invert(generator, images)
    weights = np.linspace(0, 1, count).tolist()
    between = [slerp(ends[:-1], ends[1:], weight) for weight in weights]
    nearer = [first + (weight > 0.5) for weight in weights for first in range(len(images) - 1)]
    drawn = decode(generator, torch.cat(between), nearer)
    return drawn.unflatten(0, (count, len(images) - 1)).transpose(0, 1)


def slerp(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Spherical interpolation of each image's noise, from ``first`` at weight 0 to ``second`` at 1. Shoemake 1985.

    Points in between are about as long as noise is; on the straight line they would be shorter.
    """
    flat_first, flat_second = first.flatten(1), second.flatten(1)
    cosine = torch.cosine_similarity(flat_first, flat_second, dim=1).clamp(-1, 1)
    angle = torch.acos(cosine)[:, None]
    straight = angle.sin() < 1e-4  # parallel: the formula would divide by 0
    one = torch.where(straight, 1 - weight, torch.sin((1 - weight) * angle) / angle.sin())
    other = torch.where(straight, weight, torch.sin(weight * angle) / angle.sin())
    return (one * flat_first + other * flat_second).view_as(first)


def _first(chain: Chain, steps: int) -> Chain:
    """The chain's first ``steps`` steps: those between the image and a noise level."""
    return Chain(chain.schedule.respace(np.arange(1, steps + 1)), chain.table.device)


def _steps(generator: Generator, x: Tensor, chain: Chain, index: Tensor, seed: int, purpose: str) -> Iterator[Tensor]:
    """x after each step from the top of ``chain`` to the image."""
    return generator.reverse(range(len(x)), x, chain, lambda t: noise.gaussian(seed, purpose, index, t, x.shape[1:]))


def _last(states: Iterator[Tensor]) -> Tensor:
    return deque(states, maxlen=1).pop()
