"""The verdict of a study's records, look by look, for each arm against the baseline; and the runs that it needs."""

from collections.abc import Callable, Collection, Iterable, Sequence

from ddpm.arms.run import Run
from ddpm.base.errors import UserError, plural
from ddpm.referee import guards
from ddpm.runs.alike import group_by, some
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Study
from ddpm.verdicts import curves, verdict
from ddpm.verdicts.arms import Arm, partners
from ddpm.verdicts.result import Judgement
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.tuning import Tried
from ddpm.verdicts.verdict import Rules

Say = Callable[[str], None]


def judge(ledger: Ledger) -> Judgement:
    """The verdict at the latest look that is complete for the open arms. Runs nothing.

    Raises UserError if runs were not scored in the same way, or differ in what ``plan.may_differ`` does not name.
    """
    return of_arms(ledger.study, ledger.arms(), ledger.tried, merge_reasons(ledger.refused.values()))


def missing(ledger: Ledger, judgement: Judgement, failed: Collection[str] = ()) -> tuple[int | None, list[Run]]:
    """The experiments to run next: those of tuning, then those up to the first look, in seeds, at which an open arm has
    no run yet. None is the look of tuning, and of nothing.

    failed: names of experiments that are not tried again. An arm that needs one of them is dropped.
    """
    study = ledger.study
    if tuning := [run for run in ledger.missing(study.experiments(kind="tuning")) if run.name not in failed]:
        return None, tuning
    broken = {run.arm for run in study.experiments() if run.name in failed or study.is_open(run)}
    going = set(judgement.open) - broken
    if study.baseline in going and len(going) > 1:
        for look in study.plan.looks:
            if runs := ledger.missing(run for run in study.experiments(look) if run.arm in going):
                return look, runs
    return None, []


def merge_reasons(reasons: Iterable[str]) -> list[str]:
    """A line for each reason, which begins with the files or experiments that it holds for."""
    alike = group_by((reason.partition(": ") for reason in dict.fromkeys(reasons)), lambda parts: parts[1:])
    return ["".join([some([begin for begin, *_ in parts]), *rest]) for rest, parts in alike.items()]


def aim(look: int | None, left: int) -> str:
    """How many experiments are left, and for what: a look, in seeds, or tuning."""
    count = plural(left, "experiment")
    return f"{count} for tuning" if look is None else f"{count} up to the look at {look} seeds"


def of_arms(study: Study, arms: Sequence[Arm], tried: tuple[Tried, ...] = (), refused: Iterable[str] = ()) -> Judgement:
    """The judgement of the arms' runs, the baseline's first. Each arm's looks are replayed in order, from the plan's
    first seed. tried: what chose the arms' values. refused: why rows do not count."""
    plan = study.plan
    planned = range(plan.first_seed, plan.first_seed + plan.looks[-1])
    arms = [arm._replace(runs={seed: arm.runs[seed] for seed in planned if seed in arm.runs}) for arm in arms]
    baseline, *others = arms
    runs = [run for arm in arms for run in arm.runs.values()]
    shared = set.intersection(*(set(run.scores) for run in runs)) if runs else set()
    rule = rules(study, list(dict.fromkeys([plan.primary, *study.select_metrics(shared)])))  # in what every run has
    verdicts = []
    for arm in others:
        pair = partners(baseline, arm)
        seeds = [run.seed for run in pair.after]
        complete = [look for look in plan.looks if seeds[:look] == [*planned[:look]]]
        verdicts += verdict.judge(pair, rule, complete) if seeds else []
    by = sorted({key for arm in arms for key in arm.values})
    fingerprint, notes = study.check(arms, by)
    primary = {one.arm: one for one in verdicts if one.metric == plan.primary}
    looks = {arm.label: primary[arm.label].look if arm.label in primary else None for arm in others}
    waiting = [arm for arm in looks if arm not in primary or primary[arm].outcome == "not yet"]
    revisions = ", ".join(sorted({run.revision[:10] for run in runs if run.revision})) or "unknown"
    made_by = f"runs of commit {revisions}, by the plan {study.hash}"
    return Judgement(
        question=plan.question,
        primary=plan.primary,
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        compare=study.compare.model_dump(mode="json"),
        notes=(*notes, *(f"left out: {reason}" for reason in refused), made_by),
        fingerprint=fingerprint,
        plan=study.hash,
        open=(baseline.label, *waiting) if waiting else (),
        next_look=min((next(look for look in plan.looks if look > (looks[arm] or 0)) for arm in waiting), default=None),
        curves=curves.measure_curves(arms, looks, rules(study, [plan.primary])),
        tuning=tried,
    )


def rules(study: Study, names: Sequence[str]) -> Rules:
    """How the plan's arms are judged, in the metrics ``names``, the primary one first."""
    return Rules(study.known, study.compare.confidence, names, len(study.plan.arms) - 1, Design(study.plan.looks))


def power(study: Study, effect: float) -> dict[int, float]:
    """The chance of a verdict in the primary metric by each look, for a true effect in standard deviations of the
    paired differences.

    For one arm, whatever the others do, by the t test alone: the sign-flip test nearly always agrees from 1 sd on.
    A margin, or a KID that disagrees, lowers it.
    """
    rule = rules(study, [study.plan.primary])
    chances = rule.design.power(rule.alpha / rule.family(study.plan.primary), effect)
    return dict(zip(study.plan.looks, chances.tolist(), strict=True))


def run(ledger: Ledger, slots: int | None, say: Say) -> tuple[Judgement, dict[str, str]]:
    """Run a study: tune the arms, and continue until all are decided, the plan ends, or everything left has failed
    twice. slots: how many experiments run at a time, by default one per GPU or core. say: receives progress, line by
    line. Returns the judgement, and why which experiments failed."""
    once, failed = dict[str, str](), dict[str, str]()
    while True:
        judgement = judge(ledger)
        look, left = missing(ledger, judgement, failed)
        if not left:
            return judgement, failed
        arms = ", ".join(dict.fromkeys(experiment.arm for experiment in left))
        say(f"{aim(look, len(left))}: {arms}")
        for name, reason in complete(ledger, left, slots, say).items():
            (failed if name in once else once)[name] = reason
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
            arms = ledger.arms()
            compared = sum(bool(arm.runs) for arm in arms) > 1
            if early := guards.early(arms, study.plan.primary):
                say(f"warning: {early}")
    return failed
