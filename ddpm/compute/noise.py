"""Random numbers as a function of (seed, purpose, index, step): no state to save or restore.

Image i gets the same noise at any batch size, on any number of devices, and wherever a run was resumed. The generator
is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), computed on whole tensors.
Normals are made from it by Box-Muller in float64, so that every device rounds to the same float32.
"""

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF
ROUNDS = 10

TOGETHER, NUMBERS = 16, 2**22  # at most so many steps at once, and so many numbers, which take 50 bytes each

Key = tuple[int, int] | tuple[Tensor, ...]  # two words of 32 bits
Steps = int | range  # one step, or K of them, which are the first axis of what is drawn


class Ahead:
    """Draws of ``steps`` steps at once, handed out step by step. On a GPU a draw costs its hundred launches, and not
    its numbers; each step gets the bits that it gets alone. On a CPU nothing is drawn ahead."""

    def __init__(self, numbers: int, device: torch.device):
        """numbers: in the largest draw of a step."""
        self.steps = 1 if device.type == "cpu" else max(1, min(TOGETHER, NUMBERS // numbers))
        self.drawn: dict[Hashable, tuple[range, Tensor]] = {}

    def __call__(self, name: Hashable, step: int, draw: Callable[[Steps], Tensor]) -> Tensor:
        """``draw(step)``; name: of what is drawn, for the same images at each step."""
        if self.steps == 1:
            return draw(step)
        if name not in self.drawn or step not in self.drawn[name][0]:
            self.drawn[name] = (steps := range(step, step + self.steps)), draw(steps)
        steps, block = self.drawn[name]
        return block[step - steps.start]


def random_words(key: Key, index: Tensor, step: Steps, blocks: int) -> Tensor:
    """(4, B, blocks) int64 words of 32 random bits each; (4, P, B, blocks) for keys of (P, 1, 1), and (4, K, ...) for K
    steps."""
    device, axes = index.device, 2 if isinstance(key[0], int) else key[0].ndim
    block, low, high = torch.arange(blocks, device=device), *((index >> shift & MASK)[:, None] for shift in (0, 32))
    first, count = (step & MASK, 1) if isinstance(step, int) else (step.start & MASK, len(step))
    number = torch.arange(first, first + count, device=device) & MASK
    words = torch.stack(philox((block, number.view(-1, *[1] * axes), low, high), key))
    return words[:, 0] if isinstance(step, int) else words


def gaussian(seed: int, purpose: str, index: Tensor, step: Steps, shape: tuple[int, ...]) -> Tensor:
    """Standard normals, (B, *shape) float32 on index's device: row i depends on (seed, purpose, index[i], step). For K
    steps (K, B, *shape)."""
    size = math.prod(shape)
    words = random_words(_key(seed, purpose), index, step, -(-size // 4))
    radius = torch.sqrt(-2 * torch.log((words[0::2].double() + 0.5) * 2**-32))
    angle = words[1::2].double() * (2 * math.pi * 2**-32)
    normals = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)])
    return normals.movedim((0, 1), (-3, -2)).flatten(-3)[..., :size].float().unflatten(-1, shape)


def uniform(seed: int, purpose: str, index: Tensor, step: Steps) -> Tensor:
    """Uniform draws in [0, 1), (B,) float64: entry i depends on (seed, purpose, index[i], step). (K, B) for K steps."""
    return _fraction(*random_words(_key(seed, purpose), index, step, 1)[:2, ..., 0])


def streams(seed: int, purposes: Sequence[str], device: torch.device) -> Tensor:
    """The streams that ``words`` draws from, (P, 2) int64. Made once, so that steps copy nothing to the device."""
    keys = [_key(seed, purpose) for purpose in purposes]
    return torch.tensor(keys, dtype=torch.int64, device=device).view(-1, 2)


def words(streams: Tensor, index: Tensor, step: Steps) -> Tensor:
    """(P, B, 2) int32, 64 random bits in each row: row (i, j) depends on (seed, purpose i, index[j], step). For K steps
    (K, P, B, 2)."""
    low, high = streams[:, :, None, None].unbind(dim=1)
    return random_words((low, high), index, step, 1)[:2, ..., 0].movedim(0, -1).to(torch.int32)


def uniforms(words: Tensor) -> Tensor:
    """(P, B) float64: from ``words``, (P, B, 2), the same draws in [0, 1) as by ``uniform``."""
    return _fraction(*(words.long() & MASK).unbind(dim=-1))


def _fraction(high: Tensor, low: Tensor) -> Tensor:
    return (high * 2**21 + (low >> 11)).double() * 2**-53


def keep_mask(keys: Tensor, size: int, p: float) -> Tensor:
    """A mask, (B, size) bool, each entry False with probability ``p`` to within 2**-17: row i depends on keys[i] alone.

    keys: (B, 2) int32. Each word of a 32-bit hash of the position gives two entries; the hash is a multiply-xorshift
    found by Wellons (2018, "Prospecting for hash functions"). The key's first word sets where the counter starts, its
    second changes the hash itself: with the first alone, the masks of any two keys would be one shifted sequence.
    Dropout needs millions of bits a step that look independent, and Philox would cost ten times as much.
    """
    start, twist = keys[:, :, None].unbind(dim=1)
    place = torch.arange(-(-size // 2), dtype=torch.int32, device=keys.device) * -1640531527  # 2**32 / golden ratio
    x = start + place
    room = torch.empty_like(x)
    _xor_shift(x, 16, room).mul_(0x21F0AAAD).bitwise_xor_(twist)
    _xor_shift(x, 15, room).mul_(0x735A2D97)
    _xor_shift(x, 15, room)
    return x.view(torch.int16)[:, :size] >= round(p * 2**16) - 2**15


def _xor_shift(x: Tensor, shift: int, room: Tensor) -> Tensor:
    """x ^ (x >> shift) in place, with zeros shifted in: torch's shift of int32 repeats the sign bit."""
    torch.bitwise_right_shift(x, shift, out=room)
    return x.bitwise_xor_(room.bitwise_and_(2 ** (32 - shift) - 1))


def stream_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A seed for torch's own generators, below 2**63."""
    name = f"{seed}/{purpose}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") >> 1


def _key(seed: int, purpose: str) -> tuple[int, int]:
    """A stream's Philox key, two words of 32 bits."""
    key = stream_seed(seed, purpose)
    return key & MASK, key >> 32


def philox(counter: tuple[Tensor, ...], key: Key) -> tuple[Tensor, ...]:
    """Philox4x32-10 on four int64 tensors of 32-bit words; the key's two words may be tensors too."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # int64 products wrap modulo 2**64, but their lower 32 bits and the next 32 are right; a word that is not
        # multiplied next needs no mask yet
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = ((p1 >> 32) ^ c1 ^ k0) & MASK, p1, ((p0 >> 32) ^ c3 ^ k1) & MASK, p0
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1 & MASK, c2, c3 & MASK
