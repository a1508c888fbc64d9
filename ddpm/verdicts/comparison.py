"""A comparison: arms of the runs that exist, judged at one look; and the result of any judgement of arms."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ddpm.base.errors import UserError
from ddpm.params.config import Compare, Config
from ddpm.runs import alike
from ddpm.runs.library import Listing
from ddpm.verdicts import guards, metrics, pairing, remarks, verdict
from ddpm.verdicts.curves import Curves
from ddpm.verdicts.pairing import Arm
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.tuning import Tried
from ddpm.verdicts.verdict import Verdict


@dataclass(frozen=True)
class Judgement:
    """The result of a comparison or a study; ``plan`` and what follows it are those of a study."""

    question: str
    primary: str
    arms: tuple[Arm, ...]  # the baseline first
    verdicts: tuple[Verdict, ...]  # by pair, the primary metric first; none for an arm without seeds
    compare: Compare
    notes: tuple[str, ...]
    fingerprint: str = ""  # of all scores
    plan: str = ""  # its hash
    open: tuple[str, ...] = ()  # the arms that need more seeds, including the baseline
    next_look: int | None = None  # in seeds; None if the study is over
    curves: Curves | None = None  # the primary metric over training, if the runs have snapshots
    tuning: tuple[Tried, ...] = ()  # the tries that chose the arms' values


def compare(listing: Listing, by: Sequence[str], config: Config, may_differ: Collection[str] = ()) -> Judgement:
    """Every arm of the params keys ``by`` against the baseline, in the metrics that all runs have.

    The baseline is the config's arm if it was run, otherwise the first. may_differ: those of ``pairing.ALIKE`` that
    partners need not have in common. Raises UserError if runs can't be compared.
    """
    by = tuple(dict.fromkeys(by))
    pairing.check_keys(by, listing.records, config)
    try:
        matched = alike.matching(listing.records, config, by)
        arms = pairing.arms(matched.records, by, config)
        if len(arms) == 1:
            others = [run for run in listing.records if pairing.values_of(run.params, by) != arms[0].values]
            hint = f"; of those with another value, {alike.most_alike(others, config.flat(), by)}" if others else ""
            line = f"only {arms[0].label} was run: `dvc exp run -S {by[0]}=VALUE` runs another"
            raise UserError(f"--by {' '.join(by)}: {line}{hint}")
        pairs, dropped = pairing.pair_arms(arms, by)
    except UserError as error:  # what is missing may have been left out
        raise UserError("; ".join([str(error), *listing.notes])) from error
    names = metrics.select_judged(set.intersection(*(set(run.scores) for arm in arms for run in arm.runs.values())))
    if not names:
        raise UserError("the runs have no metric in common: evaluate them in the same way")
    verdicts = []
    for pair in pairs:
        seeds = len(pair.after)
        verdicts += verdict.judge(pair, guards.rules(config.compare, names, len(pairs), Design((seeds,))), [seeds])
    fingerprint, differing = pairing.check(arms, by, may_differ)
    standard = *remarks.yardsticks(arms, names[0]), *remarks.copies(arms)
    return Judgement(
        question=f"Which is better: {', '.join(by)}?",
        primary=names[0],
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        compare=config.compare,
        notes=(*differing, *standard, *listing.notes, *matched.notes, *dropped, describe_rule(config.compare)),
        fingerprint=fingerprint,
    )


def describe_rule(compare: Compare) -> str:
    """What a table that was read once promises, for its notes."""
    return (
        f"all verdicts and intervals hold together with probability {compare.confidence:.4g}, if differences "
        "are normal and these seeds were chosen beforehand; less often if you add seeds after a look: use a study "
        "(`ddpm study`) for that"
    )
