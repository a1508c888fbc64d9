"""A comparison: arms of the runs that exist, judged at one look."""

from collections.abc import Collection, Sequence

from ddpm.base.errors import UserError
from ddpm.params.config import Config
from ddpm.referee import guards, metrics, pairing
from ddpm.runs import alike
from ddpm.runs.library import Listing
from ddpm.verdicts import verdict
from ddpm.verdicts.result import Judgement, describe_rule
from ddpm.verdicts.sequential import Design


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
            more = f"`dvc exp run -S {by[0]}=VALUE` runs" if by[0] in config.flat() else "`ddpm score` adds"
            raise UserError(f"--by {' '.join(by)}: only {arms[0].label} was run with these params: {more} another")
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
    standard = *guards.yardsticks(arms, names[0]), *guards.copies(arms)
    rule = describe_rule(config.compare.confidence)
    return Judgement(
        question=f"Which is better: {' or '.join(arm.label for arm in arms)}?",
        primary=names[0],
        arms=tuple(arms),
        verdicts=tuple(verdicts),
        compare=config.compare.model_dump(mode="json"),
        notes=(*differing, *standard, *listing.notes, *matched.notes, *dropped, rule),
        fingerprint=fingerprint,
    )
