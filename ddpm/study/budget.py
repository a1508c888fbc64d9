"""What the variants of a study have equal: images seen, operations, or seconds of training.

With ``budget: flops`` or ``seconds`` the baseline trains its own number of steps, and every other variant as many as
cost the same. What a step costs stands in the plan, so the plan means the same on every machine and with every version
of PyTorch; ``costs`` counts or measures it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ddpm.base.errors import UserError
from ddpm.compare import runs
from ddpm.params.config import Config

if TYPE_CHECKING:
    from ddpm.study.plan import Plan, Study

Budget = Literal["images", "flops", "seconds"]
UNITS = {"flops": "FLOPs", "seconds": "seconds"}
LENGTH = ("train.steps", "train.epochs")
COSTLY = (*LENGTH, "train.batch_size", "model", "diffusion.variance")  # what a step costs depends on them
ROUNDS = 3  # of measurements, interleaved, so that a disturbance meets all variants
NOISY = 0.05  # spread of a variant's measurements, relative, above which they are not to be trusted
EXACT = 1e-3  # relative difference from which a count is another one


class Costs(NamedTuple):
    """of: variant -> cost of a training step. about: their unit, for a comment. spread: relative, of measurements."""

    of: dict[str, float]
    about: str
    spread: float


def check(plan: Plan, source: str) -> None:
    """Raises UserError if budget, costs, variants and tuning do not fit together."""
    if plan.budget == "images":
        if plan.costs:
            raise UserError(f"{source}: costs: only with budget: flops or seconds; budget is images")
        return
    if not plan.costs:
        raise UserError(
            f"{source}: costs: missing: budget: {plan.budget} needs what a training step of each variant costs: "
            f"`ddpm study costs {source}` prints the line to add"
        )
    if plan.costs.keys() != plan.variants.keys():
        raise UserError(
            f"{source}: costs: of {', '.join(plan.costs)}; allowed: exactly the variants, {', '.join(plan.variants)}"
        )
    for variant, overrides in list(plan.variants.items())[1:]:
        if own := [key for key in LENGTH if key in overrides]:
            raise UserError(
                f"{source}: variants.{variant}: {own[0]}: budget: {plan.budget} decides it for all but the baseline: "
                "take it out"
            )
    if tuned := [key for key in (plan.tune.values if plan.tune else ()) if runs.is_in(key, COSTLY)]:
        raise UserError(
            f"{source}: tune: {tuned[0]}: changes what a training costs, which budget: {plan.budget} holds equal; "
            "allowed: keys that do not, or budget: images"
        )


def steps(plan: Plan, variant: str, baseline: Config, source: str) -> int:
    """How many steps of the variant cost what the baseline's cost, at least 1. Raises UserError if the baseline's
    length is in epochs."""
    if baseline.train.steps is None:
        raise UserError(f"{source}: budget: {plan.budget} needs train.steps; the baseline has train.epochs")
    first = next(iter(plan.variants))
    return max(1, round(baseline.train.steps * plan.costs[first] / plan.costs[variant]))


def notes(study: Study) -> list[str]:
    """What the variants have equal, unless it is images."""
    plan = study.plan
    if plan.budget == "images":
        return []
    parts = (
        f"{variant} {chosen.train.steps:,} steps of {plan.costs[variant]:.4g}"
        + (f" ({plan.costs[variant] / chosen.train.batch_size:.4g} an image)" if plan.budget == "flops" else "")
        for variant, chosen in study.configs.items()
    )
    return [f"equal {UNITS[plan.budget]} of training, not equal images: {', '.join(parts)}"]


def costs(study: Study, budget: Budget) -> Costs:
    """What a training step of each variant costs: counted, or measured here on a machine that does nothing else.

    Raises UserError if a network is impossible, or the pilot fails.
    """
    if budget == "flops":
        return Costs(_counted(study.configs), "FLOPs of a training step", 0.0)
    from ddpm.forecast import estimate

    found = [(name, estimate.ask_pilot(chosen)) for _ in range(ROUNDS) for name, chosen in study.configs.items()]
    times = {variant: [each.step for name, each in found if name == variant] for variant in study.configs}
    spread = max((max(each) - min(each)) / median(each) for each in times.values())
    of = {variant: float(f"{median(each):.4g}") for variant, each in times.items()}
    return Costs(of, f"seconds of a training step on {found[-1][1].device}", spread)


def check_count(study: Study) -> None:
    """Raises UserError if a variant's FLOPs are no longer those in the plan."""
    if study.plan.budget != "flops":
        return
    for variant, count in _counted(study.configs).items():
        planned = study.plan.costs[variant]
        if abs(planned - count) > EXACT * count:
            raise UserError(
                f"{study.path}: costs.{variant}: {planned:.4g} FLOPs, but a training step takes {count:.4g}: "
                f"`ddpm study costs {study.path}` prints the line as it should be"
            )


def _counted(configs: Mapping[str, Config]) -> dict[str, float]:
    from ddpm.model import flops

    return {variant: flops.per_image(each) * each.train.batch_size for variant, each in configs.items()}


def line(found: Costs) -> str:
    """For the plan's file."""
    cells = ", ".join(f"{variant}: {cost}" for variant, cost in found.of.items())
    return f"costs: {{{cells}}}  # {found.about}"


def without(value: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], Budget]:
    """A plan's plain values with the default budget, and the budget that they had. Raises UserError if that has no
    costs."""
    budget = value.get("budget", "images")
    if budget not in UNITS:
        raise UserError(f"{path}: budget: {budget!r} has no costs; allowed: {', '.join(UNITS)}")
    return {key: item for key, item in value.items() if key not in ("budget", "costs")}, budget
