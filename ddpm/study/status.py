"""The state of a study: which experiments are done, running, failed or missing, what is next and how long it takes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal, NamedTuple

from ddpm.arms.question import LOGS
from ddpm.arms.run import Kind
from ddpm.base.errors import UserError, plural
from ddpm.base.progress import duration
from ddpm.referee import guards, metrics
from ddpm.report.blocks import Chapter, Note, Table
from ddpm.runs.alike import group_by
from ddpm.study import judging
from ddpm.study.ledger import Ledger
from ddpm.study.plan import Study

State = Literal["done", "running", "failed", "missing"]
SIGNS: Mapping[State, str] = {"done": "#", "running": ">", "failed": "!", "missing": "."}
TITLES: Mapping[Kind, str] = {"verdict": "", "tuning": ", tuning"}
EFFECTS = (1.0, 1.5, 2.0)  # in standard deviations of the paired differences


@dataclass(frozen=True)
class Row:
    """An experiment. line: its number for ``--line``. reason: why it failed."""

    line: int
    name: str
    arm: str
    kind: Kind
    state: State
    reason: str | None


@dataclass(frozen=True)
class Status:
    """plan: its hash. next_look: of the experiments that are ``left`` to run next, in seeds; None for tuning. open: the
    arms that need more seeds. outcomes: of the primary metric, by arm. seconds_each: of an experiment, None if not
    known. slots: how many run at a time. early: whether all arms are worse than a Gaussian so far. pilot: whether the
    baseline's training is long enough, if that was tried."""

    plan: str
    commit: str
    seconds_each: float | None
    slots: int
    experiments: Sequence[Row]
    pilot: str
    open: Sequence[str] = ()
    outcomes: Mapping[str, str] = field(default_factory=dict)
    next_look: int | None = None
    left: Sequence[str] = ()
    early: str = ""
    trouble: str = ""

    def time(self, count: int) -> str:
        """How long that many experiments take."""
        if self.seconds_each is None:
            return "not known yet"
        return f"{duration(self.seconds_each * count / self.slots)} on {plural(self.slots, 'slot')}"


class Pilot(NamedTuple):
    """The seconds that one experiment of the baseline takes, and a line on whether its training is long enough."""

    seconds: float
    line: str


def of(ledger: Ledger, slots: int | None, tried: Pilot | None = None) -> Status:
    """The status now, from files and locks. slots: how many experiments run at a time, by default one per GPU or core.
    tried: the pilot, until an experiment is finished. Records that cannot be judged together, which ``judging.judge``
    refuses, are its ``trouble``."""
    rows, took = list[Row](), [run.seconds for run in ledger.records.values()]
    for line, one in enumerate(ledger.study.lines(), 1):
        refused = ledger.refused.get(one.name)
        reason = None if one.name in ledger.records else refused or ledger.failure(one.name)
        state: State = "done" if one.name in ledger.records else "failed" if reason else "missing"
        if state != "done" and not refused and ledger.is_running(one.name):
            state, reason = "running", None
        rows.append(Row(line, one.name, one.arm, one.kind, state, reason))
    each, line_of_pilot = fmean(took) if took else tried and tried.seconds, tried.line if tried else ""
    at_once = ledger.maker.count_slots(ledger.study.lines(), slots)
    status = Status(ledger.study.hash, ledger.maker.commit, each, at_once, rows, line_of_pilot)
    try:
        judgement = judging.judge(ledger)
        look, left = judging.missing(ledger, judgement)
        return replace(
            status,
            open=judgement.open,
            outcomes={one.arm: one.outcome for one in judgement.verdicts if one.metric == judgement.primary},
            next_look=look,
            left=[one.name for one in left],
            early=guards.early(judgement.arms, judgement.primary),
        )
    except UserError as error:
        return replace(status, trouble=str(error))


def pilot(ledger: Ledger) -> Pilot:
    """Run the baseline's first experiment without recording it, because the first record fixes the plan. Raises
    UserError with the reason if images cannot be scored, or the run fails."""
    ledger.check_images()
    study = ledger.study
    if study.of_program:
        raise UserError(f"{study.path}: --pilot: is for trainings here; run the command once by hand")
    first = next(one for one in study.lines() if one.arm == study.baseline)
    with ledger.maker.pool([first], 1) as pool:
        task = ledger.task(first)._replace(name="pilot", log=ledger.log("pilot"), rows=None, picture=None)
        (done,) = pool.run([task])
    if (record := done.record) is None:
        raise UserError(f"pilot: {done.reason}")
    primary = study.plan.primary
    score, gaussian = record.scores[primary], metrics.gaussian([record.scores], primary)
    line = f"pilot: {first.name} has {primary} {score:.3g}"
    if gaussian is not None:
        is_long = score <= gaussian
        line += f", {'better' if is_long else 'worse'} than a Gaussian ({gaussian:.3g}): "
        line += "the training is long enough" if is_long else "train for longer"
    return Pilot(record.seconds, line)


def chapters(status: Status, study: Study) -> list[Chapter]:
    """The arms with a sign per seed, the looks with their cost and power, and what is next."""
    counts, count = Counter(row.state for row in status.experiments), len(status.left)
    aim = judging.aim(status.next_look, count)
    above = [
        f"{study.name}: {study.plan.question}",
        f"primary metric {study.plan.primary}; code of commit {status.commit[:10]}; plan {status.plan[:12]}",
    ]
    below = [
        f"{', '.join(f'{sign} {counts[state]} {state}' for state, sign in SIGNS.items())}; logs in {LOGS / study.name}",
        "power: the chance of a verdict by that look, for a true difference in standard deviations (sd) of the paired "
        "differences",
        f"cannot be judged: {status.trouble}"
        if status.trouble
        else f"{aim}: {status.time(count)}"
        if count
        else f"complete: `ddpm study verdict {study.path}` prints the verdict",
        *(
            f"failed: {reason}"
            for reason in judging.merge_reasons(row.reason for row in status.experiments if row.reason)
        ),
        *filter(None, [status.early, status.pilot]),
    ]
    return [Chapter("", [*map(Note, above), _arms(status), _looks(status, study), *map(Note, below)])]


def _arms(status: Status) -> Table:
    """For each arm a sign per seed, how many are done, and its outcome by the primary metric; other rows for its runs
    for tuning."""
    rows = []
    for (arm, kind), group in group_by(status.experiments, lambda row: (row.arm, row.kind)).items():
        signs = "".join(SIGNS[row.state] for row in group)
        outcome = status.outcomes.get(arm, "") if kind == "verdict" else ""
        rows.append([f"{arm}{TITLES[kind]}", signs, str(signs.count(SIGNS["done"])), outcome])
    return Table(["arm", "seeds", "done", "verdict"], rows, "", (0, 1, 3))


def _looks(status: Status, study: Study) -> Table:
    """For tuning and each look: its numbers for ``--line``, what is missing up to it, its time and power."""
    lines = {one.name: line for line, one in enumerate(study.lines(), 1)}
    done = {row.name for row in status.experiments if row.state == "done"}
    powers = [{f"{look} seeds": chance for look, chance in judging.power(study, effect).items()} for effect in EFFECTS]
    groups = {"tuning": study.experiments(kind="tuning")}
    groups |= {f"{look} seeds": study.experiments(look) for look in study.plan.looks}
    rows = []
    for name, planned in groups.items():
        if planned:
            missing = len([one for one in planned if one.name not in done])
            chances = [f"{power[name]:.2f}" if name in power else "-" for power in powers]
            span = f"{lines[planned[0].name]}-{lines[planned[-1].name]}"
            rows.append([name, span, str(len(planned)), str(missing), status.time(missing), *chances])
    heads = ["look", "lines", "experiments", "missing", "time", *(f"power, {effect:g} sd" for effect in EFFECTS)]
    return Table(heads, rows)
