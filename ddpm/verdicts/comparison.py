"""A comparison: arms of the runs that exist, judged at one look; and what any judgement of arms comes to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

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
    """What a comparison or a study of ``arms``, the baseline first, comes to.

    verdicts: by pair, the primary metric first; none for an arm without seeds. fingerprint: what all scores rest on.
    Of a study: plan, the hash; open, the arms that need more seeds, including the baseline; next_look, in seeds, None
    if the study is over; curves, the primary metric over training, if the runs have snapshots; tuning, what chose the
    arms' values.
    """

    question: str
    primary: str
    arms: tuple[Arm, ...]
    verdicts: tuple[Verdict, ...]
    compare: Compare
    notes: tuple[str, ...]
    fingerprint: str = ""
    plan: str = ""
    open: tuple[str, ...] = ()
    next_look: int | None = None
    curves: Curves | None = None
    tuning: tuple[Tried, ...] = ()


def compare(listing: Listing, by: Sequence[str], config: Config, may_differ: Collection[str] = ()) -> Judgement:
    """Every arm of the params keys ``by`` against the baseline, in the metrics that all runs have.

    The baseline is the config's arm if it was run, else the first. may_differ: of ``pairing.ALIKE``, what partners need
    not have in common. Raises UserError if runs can't be compared.
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
        pairs, dropped = pairing.paired(arms, by)
    except UserError as error:  # what is missing may have been left out
        raise UserError("; ".join([str(error), *listing.notes])) from error
    names = metrics.judged(set.intersection(*(set(run.scores) for arm in arms for run in arm.runs.values())))
    if not names:
        raise UserError("no metric is in all runs: evaluate them in the same way")
    verdicts = []
    for pair in pairs:
        seeds = len(pair.after)
        verdicts += verdict.judge(pair, guards.rules(config.compare, names, len(pairs), Design((seeds,))), [seeds])
    judgement = judge(f"Which is better: {', '.join(by)}?", names[0], arms, verdicts, config.compare, by, may_differ)
    rule = (
        f"all verdicts and intervals hold together with probability {config.compare.confidence:.4g}, if differences "
        "are normal and these seeds were chosen beforehand; if you add seeds after a look, less often: use a study "
        "(`ddpm study`) for that"
    )
    more = (*remarks.copies(arms), *listing.notes, *matched.notes, *dropped, rule)
    return replace(judgement, notes=(*judgement.notes, *more))


def judge(
    question: str,
    primary: str,
    arms: Sequence[Arm],
    verdicts: Sequence[Verdict],
    compare: Compare,
    by: Sequence[str],
    may_differ: Collection[str],
) -> Judgement:
    """What the verdicts on arms that differ in ``by`` come to. Raises UserError if the runs were not scored alike, or
    differ in what is not in ``may_differ``."""
    records = [run for arm in arms for run in arm.runs.values()]
    pairing.check_distinct(arms)
    fingerprint = pairing.check_fingerprints(records, by) if records else ""
    differing = pairing.check_alike(arms, may_differ)
    return Judgement(
        question=question,
        primary=primary,
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        compare=compare,
        notes=(*differing, *remarks.yardsticks(records, primary), *remarks.skewed(verdicts)),
        fingerprint=fingerprint,
    )
