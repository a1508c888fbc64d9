"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ddpm.base.errors import UserError
from ddpm.base.machine import cores
from ddpm.compute import devices as machine
from ddpm.study import judging
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Experiment
from ddpm.verdicts import remarks
from ddpm.verdicts.comparison import Judgement

Say = Callable[[str], None]


def run(ledger: Ledger, at_once: int, say: Say) -> tuple[Judgement, dict[str, str]]:
    """Run a study, ``at_once`` experiments at a time: tune the arms, and continue until all are decided, the plan ends,
    or everything left has failed. say: receives progress, line by line. Returns the judgement, and why which
    experiments failed."""
    failed: dict[str, str] = {}
    while True:
        judgement = judging.judge(ledger)
        look, left = judging.missing(ledger, judgement, failed)
        if not left:
            return judgement, failed
        arms = ", ".join(dict.fromkeys(experiment.arm for experiment in left))
        say(f"{judging.aim(look, len(left))}: {arms}")
        failed |= complete(ledger, left, at_once, say)
        ledger.update()


def complete(
    ledger: Ledger, left: Sequence[Experiment], at_once: int, say: Say, keep_models: bool = False
) -> dict[str, str]:
    """Run these experiments of a study, and return why which failed. keep_models: for jobs elsewhere, which may differ
    in sampling alone. After the first pair, say whether both score worse than a Gaussian."""
    study, failed, compared = ledger.study, dict[str, str](), False
    for experiment in left:
        if study.is_open(experiment):
            why = f"all runs for tuning come first, and one of them needs a {study.plan.primary}"
            raise UserError(f"{experiment.name}: the values of {experiment.arm} are not known: {why}")
    devices = gpus(recipe.config.device for recipe in study.arms.values())
    for line, rest in ledger.experiments.run(left, at_once, devices, failed, keep_models):
        say(line + rest)
        if not compared:
            ledger.update()
            arms = ledger.arms()
            compared = sum(bool(arm.runs) for arm in arms) > 1
            if early := remarks.early(arms, study.plan.primary):
                say(f"warning: {early}; `ddpm study status {study.path} --pilot` estimates for how long")
    return failed


def slots(given: int | None, devices: Iterable[str]) -> int:
    """How many experiments run at a time: those ``given``, or one per GPU or core. devices: as params name them."""
    return given or len(gpus(devices)) or cores()


def gpus(devices: Iterable[str]) -> tuple[str, ...]:
    """The GPUs that experiments on these devices may use, as CUDA_VISIBLE_DEVICES names them."""
    if set(devices) == {"cpu"}:
        return ()
    return machine.gpus()
