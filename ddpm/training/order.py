"""The order of a shuffled epoch of any length, in constant memory."""

import numpy as np
from numpy.typing import NDArray

from ddpm.compute.noise import stream_seed

WINDOW = 8  # blocks whose images are shuffled together
ROUNDS = 8  # twice as many as a strong pseudorandom permutation needs, as its domain may be small


def permuted(places: NDArray[np.int64], size: int, seed: int, epoch: int, purpose: str = "order") -> NDArray[np.int64]:
    """The image at each of ``places`` in that epoch: a permutation of 0..size - 1 that depends on seed, purpose, epoch.

    A Feistel network permutes the smallest 4**h numbers that hold them; one that leads outside is permuted again until
    it does not, fewer than four times on average (cycle walking: Black, Rogaway 2002, "Ciphers with arbitrary finite
    domains"). Its rounds are keyed by the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = [np.uint64(stream_seed(seed, f"{purpose}/{number}", epoch)) for number in range(ROUNDS)]
    found = places.astype(np.uint64)
    walking = np.arange(len(found))
    while len(walking):
        left, right = found[walking] >> half, found[walking] & _ones(half)
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & _ones(half))
        found[walking] = left << half | right
        walking = walking[found[walking] >= size]
    return found.astype(np.int64)


def in_blocks(places: NDArray[np.int64], size: int, block: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """As ``permuted``, but images that are near each other in the file come near each other.

    Blocks of ``block`` consecutive images come in random order, and each WINDOW of them is one shuffled run of places.
    Where blocks begin differs from epoch to epoch, so that other images come together, and other ones are last: those
    that fill no block.
    """
    block = min(block, size)
    blocks, run = size // block, WINDOW * block
    ordered = np.empty_like(places)  # the place if only the blocks were shuffled
    for window in np.unique(places // run).tolist():
        here, first = places // run == window, window * run
        length = min(run, size - first)
        ordered[here] = first + permuted(places[here] - first, length, seed, epoch, f"order/window/{window}")
    number, offset = np.divmod(ordered, block)
    whole = number < blocks
    number[whole] = permuted(number[whole], blocks, seed, epoch, "order/blocks")
    start = stream_seed(seed, "order/start", epoch) % size
    return (number * block + offset + start) % size


def _ones(bits: np.uint64) -> np.uint64:
    return (np.uint64(1) << bits) - np.uint64(1)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
