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


class Runner:
    """Runs a study, ``at_once`` experiments at a time. say: receives progress, line by line. failed: name -> reason."""

    def __init__(self, ledger: Ledger, at_once: int, say: Callable[[str], None]):
        self.ledger = ledger
        self.at_once = at_once
        self.say = say
        self.failed: dict[str, str] = {}
        self.compared = False  # whether two arms have had a run

    def run(self) -> Judgement:
        """Tune the arms. Continue until all are decided, the plan ends, or everything left has failed."""
        while True:
            judgement = judging.judge(self.ledger)
            look, left = judging.missing(self.ledger, judgement, self.failed)
            if not left:
                return judgement
            arms = ", ".join(dict.fromkeys(experiment.arm for experiment in left))
            self.say(f"{judging.aim(look, len(left))}: {arms}")
            self.complete(left)
            self.ledger.update()

    def complete(self, left: Sequence[Experiment], keep_models: bool = False) -> None:
        """Run the experiments. keep_models: for jobs elsewhere, which may differ in sampling alone."""
        study = self.ledger.study
        for experiment in left:
            if study.is_open(experiment):
                why = f"all runs for tuning come first, and one of them needs a {study.plan.primary}"
                raise UserError(f"{experiment.name}: the values of {experiment.arm} are not known: {why}")
        devices = gpus(config.device for config in study.configs.values())
        for line, rest in self.ledger.experiments.run(left, self.at_once, devices, self.failed, keep_models):
            self._tell(line + rest)

    def _tell(self, line: str) -> None:
        """Say the line and, after the first pair, whether both score worse than a Gaussian."""
        self.say(line)
        if not self.compared:
            self.ledger.update()
            arms, study = self.ledger.arms(), self.ledger.study
            self.compared = sum(bool(arm.runs) for arm in arms) > 1
            if early := remarks.early(arms, study.plan.primary):
                self.say(f"warning: {early}; `ddpm study status {study.path} --pilot` estimates for how long")


def slots(given: int | None, devices: Iterable[str]) -> int:
    """How many experiments run at a time: those ``given``, or one per GPU or core. devices: as params name them."""
    return given or len(gpus(devices)) or cores()


def gpus(devices: Iterable[str]) -> tuple[str, ...]:
    """The GPUs that experiments on these devices may use, as CUDA_VISIBLE_DEVICES names them."""
    if set(devices) == {"cpu"}:
        return ()
    return machine.gpus()
