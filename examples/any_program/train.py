"""Train a two-layer network on two spirals, in numpy alone, and print its loss on points that it has not seen.

The points are the same for every seed. A seed draws the weights and the batches.
"""

import argparse

import numpy as np

POINTS, BATCH, STEPS, NOISE = 400, 32, 300, 0.2


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of two spirals, (count, 2), and to which each belongs, (count,)."""
    rng = np.random.default_rng(seed)
    side = np.arange(count) % 2
    radius = rng.uniform(0.2, 3, count)
    angle = 1.5 * radius + np.pi * side
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return points + NOISE * rng.standard_normal((count, 2)), side


def initial(width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights and biases of both layers."""
    return [rng.normal(0, 1, (2, width)), np.zeros(width), rng.normal(0, 1 / width**0.5, width), np.zeros(1)]


def forward(weights: list[np.ndarray], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hidden layer, (n, width), and the logit of the second spiral, (n,)."""
    first, bias, second, offset = weights
    hidden = np.maximum(points @ first + bias, 0)
    return hidden, hidden @ second + offset


def gradients(weights: list[np.ndarray], points: np.ndarray, side: np.ndarray) -> list[np.ndarray]:
    """Of the mean cross entropy, by weight."""
    hidden, logit = forward(weights, points)
    error = (1 / (1 + np.exp(-logit)) - side) / len(side)
    inner = np.outer(error, weights[2]) * (hidden > 0)
    return [points.T @ inner, inner.sum(0), hidden.T @ error, error.sum(keepdims=True)]


def train(seed: int, lr: float, width: int) -> float:
    """The loss on held-out points after training."""
    rng, (points, side) = np.random.default_rng(seed), spirals(POINTS, 0)
    weights = initial(width, rng)
    for _ in range(STEPS):
        batch = rng.integers(0, POINTS, BATCH)
        for weight, gradient in zip(weights, gradients(weights, points[batch], side[batch]), strict=True):
            weight -= lr * gradient  # noqa: PLW2901 (in place)
    unseen, belongs = spirals(1000, 1)
    _, logit = forward(weights, unseen)
    return float(np.logaddexp(0, np.where(belongs, -logit, logit)).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--width", type=int, default=32)
    print(f"val_loss: {train(**vars(parser.parse_args())):.5f}")
