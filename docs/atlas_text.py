"""What docs/atlas.md says around its tables, in Markdown, and how its cells say an effect."""

INTRODUCTION = """\
*For anyone who chooses between methods: every comparison that a study of this project has made.* [The
recipe](recipe.md) turns them into advice; each page below answers one question. What papers claim is "from memory" if
the paper was not checked. `python -m docs.make_atlas` writes this page."""
READING = """\
*Effect* is the mean difference from the baseline over paired training seeds, its interval, and how many of the seeds
agree in sign. It is in the [Fréchet distance](metrics.md) of a small classifier, unless KID (EfficientNet's) or bits
per dimension is named; lower is better for all. [Within its
study](concepts.md#how-often-a-verdict-is-false) the verdicts have an error rate of 5%. *Open*: the seeds decide nothing
so far. *Too early*: both score worse than [a Gaussian](metrics.md#yardsticks). *Likelihood* is the verdict on bits per
dimension, *useless* from 8 bits on, a uniform guess. In the picture, an arrow is a mean beyond its edge. * marks a
verdict that [does not survive all of them together](#all-verdicts-together). [Few steps](atlas-few-steps.md), [a night
of ideas](ladder.md#ideas-from-a-program) and [sizes](#do-verdicts-carry-over-to-larger-networks) have their own
tables."""
ALL_TOGETHER = """\
Each study limits its own error rate; {rows} rows together need another limit. Benjamini and Yekutieli's
procedure (2001, theorem 1.3) keeps the expected share of false verdicts among those that survive at 5% or less, however
the rows depend on each other, from p values that are adjusted for looks. Of {decided} rows
that are better or worse, {standing} survive; with the likelihoods, {standing_all} of {decided_all}. Read as open:
{fragile}. All this rests on the tails of normal differences: by exact sign-flip p values, at least .008 with eight
seeds, {flips} would survive. The differences do look normal: of {samples} samples of eight seeds or more a Shapiro-Wilk
test at 5% rejects {odd}, and the mean excess kurtosis is {kurtosis:+.2f} (standard error {error:.2f})."""
SHARED = """\
The {records} published records come from {trainings} trainings. Studies that share trainings (equal params and
seed) are not independent evidence: {groups}."""
TRANSFER = """\
Settings that were changed alone on more than one data set, with the study's name. Studies that disagree also differ in
the network, the budget, the sampler or the learning rate."""
BY_SIZE = """\
[The same contrasts at several widths](atlas-size.md) and two budgets: the effect on the Fréchet distance at each
width, bold if that is a verdict, and the factor by which the ratio to the default changes with ten times the
weights. That is the mean of each seed's line through the logarithms, with Student's interval, adjusted for the whole
table. An effect *grows*, *fades* or *flips* if the interval excludes 1; otherwise its change is *open*. It is *too
early* to say where, at any width, both are worse than a Gaussian."""
LIMITS = """\
The studies use handwritten digits of 16 or 28 pixels a side and up to 2,641 photos of flowers of 32, networks of
160,000 to 2.6 million weights, and 10,240 to 301,696 images of training. They show nothing about large networks or long
trainings. But for two networks none compares networks or optimizers at equal cost. Where a page agrees with a paper,
that proves little; where it disagrees, the claim does not hold everywhere."""


def percent(part: float) -> str:
    """A difference as a share of the baseline's score."""
    return f"{part:{'+.0%' if abs(part) >= 0.095 else '+.1%'}}"
