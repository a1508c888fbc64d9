"""From a study's plan to its verdict: run what is missing up to the next look on the slots, then judge it."""

from collections.abc import Callable, Sequence

from ddpm.arms.run import Run
from ddpm.base.errors import UserError
from ddpm.referee import remarks
from ddpm.study import judging
from ddpm.study.ledger import Ledger
from ddpm.verdicts.result import Judgement

Say = Callable[[str], None]


def run(ledger: Ledger, slots: int | None, say: Say) -> tuple[Judgement, dict[str, str]]:
    """Run a study: tune the arms, and continue until all are decided, the plan ends, or everything left has failed.
    slots: how many experiments run at a time, by default one per GPU or core. say: receives progress, line by line.
    Returns the judgement, and why which experiments failed."""
    failed: dict[str, str] = {}
    while True:
        judgement = judging.judge(ledger)
        look, left = judging.missing(ledger, judgement, failed)
        if not left:
            return judgement, failed
        arms = ", ".join(dict.fromkeys(experiment.arm for experiment in left))
        say(f"{judging.aim(look, len(left))}: {arms}")
        failed |= complete(ledger, left, slots, say)
        ledger.update()


def complete(
    ledger: Ledger, left: Sequence[Run], slots: int | None, say: Say, keep_models: bool = False
) -> dict[str, str]:
    """Run those of these experiments that are not done, and return why which failed. keep_models: for jobs elsewhere,
    which may differ in sampling alone. After the first pair, say whether both score worse than a Gaussian."""
    study, failed, compared = ledger.study, dict[str, str](), False
    for experiment in left:
        if study.is_open(experiment):
            why = f"all runs for tuning come first, and one of them needs a {study.plan.primary}"
            raise UserError(f"{experiment.name}: the values of {experiment.arm} are not known: {why}")
    for line, rest in ledger.make(ledger.missing(left), slots, failed, keep_models):
        say(f"{line}{rest}")
        if not compared:
            ledger.update()
            arms = ledger.arms()
            compared = sum(bool(arm.runs) for arm in arms) > 1
            if early := remarks.early(arms, study.plan.primary):
                say(f"warning: {early}; `ddpm study status {study.path} --pilot` estimates for how long")
    return failed
