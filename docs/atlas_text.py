"""The prose of docs/atlas.md, in Markdown, and the format of an effect in its tables."""

INTRODUCTION = """\
*For anyone who chooses between methods: every comparison that a study of this project has made.* [The
recipe](recipe.md) turns them into advice; each page below answers one question, and quotes papers "from memory" where
they were not checked. `python -m docs.make_atlas` writes this page."""
READING = """\
*Effect* is the mean difference from the baseline over paired training seeds, its interval, and the number of seeds
that agree in sign. It is in the [Fréchet distance](metrics.md) of a small classifier, unless KID (EfficientNet's),
bits per dimension or the [panel](metrics.md#several-eyes) is named; lower is better for all. The verdicts of [a
study](concepts.md#how-often-a-verdict-is-false) have an error rate of 5%. *Open*: inconclusive so far. Left out:
rows in which both score worse than [a Gaussian](metrics.md#yardsticks), so that it is too early. *Likelihood* is
the verdict on bits per dimension, *useless* from 8 bits on, a uniform guess. In the picture, an arrow marks a mean
beyond the edge. * marks verdicts that [fail the correction for testing all of them](#all-verdicts-together). [Few
steps](atlas-few-steps.md), [a night of ideas](ladder.md#ideas-from-a-program),
[sizes](#do-verdicts-carry-over-to-larger-networks), [the recipe](recipe.md) and [claims](claims.md) have their own
tables."""
ALL_TOGETHER = """\
Each study limits its own error rate, but not that of all {rows} rows together. Benjamini and Yekutieli's
procedure (2001, theorem 1.3), with p values adjusted for looks, keeps the expected share of false verdicts among the
survivors at 5% or less, however the rows depend on each other. Of {decided} rows
that are better or worse, {standing} survive; with the likelihoods, {standing_all} of {decided_all}. Read these as open:
{fragile}. The tails of normal differences matter here: by exact sign-flip p values, at least .008 with eight
seeds, {flips} would survive. The differences do look normal: a Shapiro-Wilk test at 5% rejects {odd} of {samples}
samples of eight seeds or more, and the mean excess kurtosis is {kurtosis:+.2f} (standard error {error:.2f})."""
SHARED = """\
The {records} published records come from {trainings} trainings. Studies of this page that share trainings (equal
params and seed) are not independent evidence: {groups}."""
TRANSFER = """\
Settings changed alone on more than one data set, with the study's name. Studies that disagree also differ in the
network, the budget, the sampler or the learning rate."""
BY_SIZE = """\
[The same contrasts at several widths](atlas-size.md) and two budgets: the effect on the Fréchet distance, bold if it is
a verdict, and the factor by which ten times the weights change the ratio to the default, the mean slope of each seed's
line through the logarithms, with Student's interval, adjusted for the whole table. An effect *grows*, *fades* or
*flips* if the interval excludes 1; otherwise it is *open*, or *too early* if both are worse than a Gaussian at any
width."""
CARRY_OVER = """\
**Do signs carry over?** {same} of {all} effects have the same sign at {first} and {last} weights (95% interval
{low:.0%} to {high:.1%}, by Clopper and Pearson, as if independent); of those not too early, {late_same} of {late}. The
line through their logarithms that allows errors in both, the first principal axis, has a slope of {slope:.2f}
({slope_low:.2f} to {slope_high:.2f}, by a bootstrap over arms)."""
LIMITS = """\
The studies use handwritten digits of 16 or 28 pixels a side and up to 2,641 photos of flowers of 32, networks of
160,000 to 2.6 million weights, and 10,240 to 301,696 images of training. They show nothing about large networks or long
trainings. Only one compares two networks at equal cost, and none optimizers. Agreement with a paper proves little;
disagreement shows that the claim does not hold everywhere."""


def percent(part: float) -> str:
    """A difference as a share of the baseline's score."""
    return f"{part:{'+.0%' if abs(part) >= 0.095 else '+.1%'}}"
