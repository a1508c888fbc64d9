"""What the variants of a study have equal: images seen, or operations.

With ``budget: flops`` the baseline trains its own number of steps, and every other variant as many as cost the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ddpm.base.errors import UserError
from ddpm.compare import runs
from ddpm.params.config import Config

if TYPE_CHECKING:
    from ddpm.study.plan import Plan, Study

Budget = Literal["images", "flops"]
LENGTH = ("train.steps", "train.epochs")
COSTLY = (*LENGTH, "train.batch_size", "model", "diffusion.variance")  # what a step costs depends on them


def check(plan: Plan, source: str) -> None:
    """Raises UserError if a variant or tuning sets what ``budget: flops`` decides."""
    if plan.budget == "images":
        return
    for variant, overrides in list(plan.variants.items())[1:]:
        if own := [key for key in LENGTH if key in overrides]:
            raise UserError(
                f"{source}: variants.{variant}: {own[0]}: budget: flops decides it for all but the baseline; take it "
                "out"
            )
    if tuned := [key for key in (plan.tune.values if plan.tune else ()) if runs.is_in(key, COSTLY)]:
        raise UserError(
            f"{source}: tune: {tuned[0]}: changes what a training costs, which budget: flops holds equal; "
            "allowed: keys that do not, or budget: images"
        )


def per_step(config: Config) -> int:
    """The FLOPs of a training step, counted without running it. Raises UserError if the network is impossible."""
    from ddpm.model import flops  # torch comes with it

    return flops.per_image(config) * config.train.batch_size


def steps(study: Study, variant: str) -> int:
    """How many steps of the variant cost what the baseline's cost, at least 1. Raises UserError if the baseline's
    length is in epochs."""
    length = study.settings.train.steps
    if length is None:
        raise UserError(f"{study.path}: budget: flops needs train.steps; the baseline has train.epochs")
    return max(1, round(length * study.flops[study.baseline] / study.flops[variant]))


def notes(study: Study) -> list[str]:
    """What the variants have equal, unless it is images."""
    if not study.flops:
        return []
    options = {variant: study.configs[variant].train for variant in study.flops}
    parts = (
        f"{variant} {options[variant].steps:,} steps of {cost:.4g} ({cost / options[variant].batch_size:.4g} an image)"
        for variant, cost in study.flops.items()
    )
    return [f"equal FLOPs of training, not equal images: {', '.join(parts)}"]
