"""What can be chosen is listed, and combinations that make no sense are refused with the reason."""

from typing import Any

import pytest

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.params.config import FAMILIES
from tests.small import small

WORD = r"\w+"


def allowed(*names: str) -> str:
    """A pattern for the end of a message that allows these, in this order, and maybe others."""
    return f"allowed: {', '.join(f'(?:{WORD}, )*{name}' for name in names)}(?:, {WORD})*$"


@pytest.mark.parametrize("family", FAMILIES.values())
def test_every_variant_says_in_a_line_or_two_what_it_is(family):
    described = variant.members(family)
    assert list(described) == variant.names(family)
    assert all(20 < len(line) < 250 and line.endswith(".") for line in described.values()), described


ZERO = {"name": "cosine", "cosine": {"zero_terminal_snr": True}}


@pytest.mark.parametrize(
    ("diffusion", "words"),
    [
        ({"schedule": ZERO, "parameterization": {"name": "epsilon"}}, allowed("edm", "flow", "v", "x0")),
        ({"schedule": ZERO, "loss": {"name": "min_snr"}}, allowed("consistency", "mean_flow", "shortcut", "simple")),
        (
            {"schedule": ZERO, "loss": {"name": "simple", "simple": {"space": "epsilon"}}},
            r"loss.simple.space: epsilon .*schedule.cosine.zero_terminal_snr: true .*allowed: null, flow, v, x0$",
        ),
        (
            {"schedule": {"name": "linear", "linear": {"beta_start": 0.02}}, "T": 20},
            r"schedule: linear with T: 20 .*float32",
        ),
        (
            {"schedule": {"name": "sigmoid", "sigmoid": {"start": 2.0, "end": 1.0}}},
            r"diffusion.schedule.sigmoid: start: 2.0 .*end: 1.0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_is_allowed(diffusion, words):
    base: dict[str, Any] = {key: {"name": value.name} for key, value in small().diffusion if key != "T"}
    with pytest.raises(UserError, match=words):
        small(diffusion={"T": 50, **base, **diffusion}, sample={"steps": 1})
