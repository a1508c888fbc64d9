"""A verdict as one sentence that can be pasted, and as an entry of BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ddpm.compare import metrics
from ddpm.compare.verdict import DECIDED, Described

LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)


def sentence(seen: Described) -> str:
    """Both means, the difference and its interval, what that is adjusted for, the seeds and the setting."""
    if seen.outcome in DECIDED:
        outcome = f"{seen.variant} is {seen.outcome} {'to' if seen.outcome == 'equivalent' else 'than'} {seen.baseline}"
    else:
        outcome = f"{seen.variant} against {seen.baseline} is {seen.said}"
    interval = "no interval" if seen.low is None else f"{seen.low:+.3g} to {seen.high:+.3g}, {seen.coverage}"
    return (
        f"{outcome} in {metrics.title(seen.metric)} ({seen.direction} is better): {seen.variant_mean:.4g} against "
        f"{seen.baseline_mean:.4g}, difference {seen.difference:+.3g} ({interval}), means over {len(seen.seeds)} "
        f"paired training seeds; {seen.setting}."
    )


def bibtex(seen: Described) -> str:
    """The sentence as the note of an entry, with LaTeX's own characters escaped."""
    key = re.sub(r"[^A-Za-z0-9]+", "-", f"ddpm-{seen.variant}-{seen.baseline}-{seen.metric}")
    title = f"{seen.variant} against {seen.baseline} in {metrics.title(seen.metric)}".translate(LATEX)
    return f"@misc{{{key},\n  title = {{{{{title}}}}},\n  note = {{{sentence(seen).translate(LATEX)}}},\n}}"


def to_dict(seen: Described) -> dict[str, str]:
    """For verdict.json."""
    return {"sentence": sentence(seen), "bibtex": bibtex(seen)}


def sentences(found: Iterable[Described], metric: str) -> list[str]:
    """A sentence for each pair in that metric."""
    return [sentence(seen) for seen in found if seen.metric == metric]


def markdown(found: Iterable[Described], metric: str) -> str:
    """The sentences and their entries, for the end of a page."""
    own = [seen for seen in found if seen.metric == metric]
    parts = [f"{sentence(seen)}\n\n```bibtex\n{bibtex(seen)}\n```\n" for seen in own]
    return "\n".join(["\n## To cite\n", *parts]) if parts else ""
