"""What the arms of a study have equal: images seen, or operations.

With ``budget: flops`` the baseline trains its own number of steps, and every other arm as many as cost the same.
"""

from __future__ import annotations

from ddpm.base.errors import UserError
from ddpm.params.config import Config
from ddpm.runs import alike
from ddpm.study.experiments import Study
from ddpm.study.plan import Plan

LENGTH = ("train.steps", "train.epochs")
COSTLY = (*LENGTH, "train.batch_size", "model", "diffusion.variance")  # what a step costs depends on them


def check(plan: Plan, source: str) -> None:
    """Raises UserError if an arm or tuning sets what ``budget: flops`` decides."""
    if plan.budget == "images":
        return
    for arm, overrides in list(plan.arms.items())[1:]:
        if lengths := [key for key in LENGTH if key in overrides]:
            raise UserError(
                f"{source}: arms.{arm}: {lengths[0]}: budget: flops decides it for all but the baseline; take it out"
            )
    if tuned := [key for key in (plan.tune.values if plan.tune else ()) if alike.is_in(key, COSTLY)]:
        raise UserError(
            f"{source}: tune: {tuned[0]}: changes what a training costs, which budget: flops holds equal; "
            "allowed: keys that do not, or budget: images"
        )


def per_step(config: Config) -> int:
    """The FLOPs of a training step, counted without running it. Raises UserError if the network is impossible."""
    from ddpm.model import flops  # torch comes with it

    return flops.per_image(config) * config.train.batch_size


def steps(study: Study, arm: str) -> int:
    """How many steps of the arm cost what the baseline's cost, at least 1. Raises UserError if the baseline's
    length is in epochs."""
    length = study.config.train.steps
    if length is None:
        raise UserError(f"{study.path}: budget: flops needs train.steps; the baseline has train.epochs")
    return max(1, round(length * study.flops[study.baseline] / study.flops[arm]))


def notes(study: Study) -> list[str]:
    """What the arms have equal, unless it is images."""
    if not study.flops:
        return []
    options = {arm: study.configs[arm].train for arm in study.flops}
    parts = (
        f"{arm} {options[arm].steps:,} steps of {cost:.4g} ({cost / options[arm].batch_size:.4g} an image)"
        for arm, cost in study.flops.items()
    )
    return [f"equal FLOPs of training, not equal images: {', '.join(parts)}"]
