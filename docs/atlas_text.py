"""What docs/atlas.md says around its tables, in Markdown."""

INTRODUCTION = """\
What this project has found out so far: a page for each question, one row here for each comparison that a study has
made, and what papers say about it. `python -m docs.make_atlas` writes this page from the verdicts and records in
[metrics/studies/](../metrics/studies), the plans in [studies/](../studies) and those pages; a test checks that it is
current."""
READING = """\
Each study decides by one score, named under *effect*: FD is the [Fréchet distance](metrics.md) in the features of a
small classifier, bits per dimension is the likelihood of held-out images, and lower is better for both. The effect is
the mean difference from the baseline over paired training seeds; in brackets, how many seeds went that way. The
interval is for that difference, in the score's own unit. At 95%, it holds at every look of the study and for all its
arms together, for [symmetric differences](concepts.md#how-often-a-verdict-is-false). *Open* means that the seeds so far
do not decide. It does not mean that the two are equal. *Likelihood* is the study's verdict on bits per dimension, next
to the primary one: *useless* where the arm needs 8 bits or more, as many as a uniform guess."""
YARDSTICKS = """\
An arrow is a mean beyond the picture's edge.

All but those of parameterization were reached before runs were compared with [a Gaussian](metrics.md#yardsticks) fitted
to the train images. It scores FD 7.5 on flowers at 1,024 images, 12.0 on digits and 126 on MNIST at 720. By today's
rule six rows would be **too early**, because both sides score worse: classes against none, edm against v (flowers_edm),
linear against cosine (flowers_schedule), and x0, epsilon and flow against v (flowers_targets). rectified against cosine
(flowers_rectified) is close: 7.44 and 8.34. In the rows of guidance the guided side is better than the Gaussian. No row
of digits or MNIST changes: in uvit against unet and in epsilon against v (mnist_targets) only one side is worse. The
notes "far from real images" in mnist_targets came from an older rule, about shares below .05, and are void. The three
small_data studies decide by likelihood, for which there is no such yardstick."""
ALL_TOGETHER = """\
Each study keeps its own error rate; {rows} rows together need another look. The procedure of Benjamini and Yekutieli
(2001, theorem 1.3) keeps the expected share of false ones among all that it lets stand at 5% or less, whatever the rows
have in common, and they do have something in common: see the table below. Each row brings the p value of its own
comparison, adjusted for the looks of its plan. Of {decided} rows that are better or worse, {standing} stand. A * in the
table above marks the others: {fragile}. Read these as open. With the p values as the studies print them, which are also
adjusted for the other arms of a study, {strict} would stand. What is *equivalent* rests on another test, and is not
counted."""
SHARED = """\
Two studies share a training where params and seed are the same: the same model, whether it was trained once or twice.
Such verdicts are not independent evidence. The {records} records of all studies hold {trainings} trainings."""
TRANSFER = """\
Arms that change one setting, by the data they were tried on, with the study's name. Differences in FD are of the data's
own scale: compare the percentages. Where studies disagree, they differ in more than the data: in the network, the
budget, the sampler or the learning rate."""
BY_BUDGET = "A study with snapshots also compares the arms after shorter trainings, with one band over all budgets."
PAPERS = """\
Papers train larger networks for longer, on other images, mostly with one seed. So agreement is no proof, and
disagreement is no refutation: it says that a claim does not hold everywhere. A claim without a table or section is as
we remember it."""
LIMITS = """\
They use handwritten digits of 16 or 28 pixels a side and 2,641 photos of flowers of 32, networks below a million
weights and trainings of minutes. None says anything about large networks or long trainings. Each also has limits of its
own:

"""
NOT_ASKED = """\
No study here uses CIFAR-10 or clothes, and none compares larger networks, longer trainings or equal time. Each would be
[one file](study.md)."""
