"""Verdicts at one look: what a difference is called."""

from collections.abc import Sequence

import pytest

from ddpm.params.config import Compare
from ddpm.referee import guards, metrics
from ddpm.runs.record import Record
from ddpm.verdicts import citation, verdict
from ddpm.verdicts.arms import Pair
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.verdict import Verdict
from tests.scored import result

FD, KID = "classifier.fd", "classifier.kid_mean"
SIX = range(6)
COPIES = {"memorisation.pixels.share": 0.4, "memorisation.pixels.limit": 0.14}
CLEAR = [0.050, 0.052, 0.048, 0.051, 0.049, 0.050]
MADE = {schedule: result(schedule) for schedule in ("cosine", "linear")}


def pair(
    gaps: Sequence[float], metric: str = FD, kid: float | None = None, baseline: float = 1.0, copying: str = ""
) -> Pair:
    """Runs whose scores in ``metric`` differ by ``gaps``; ``kid``: the difference of the kernel distance.

    copying: the schedule whose last run copies its train images; the others come as near as new images may.
    """
    values = [baseline + 0.003 * seed for seed in range(len(gaps))]

    def side(name: str, scores: Sequence[float], kernel: float) -> tuple[Record, ...]:
        runs = []
        for seed, score in enumerate(scores):
            copies = COPIES if name == copying and seed == len(scores) - 1 else COPIES | {next(iter(COPIES)): 0.14}
            kernels = {} if kid is None else {KID: kernel}
            runs.append(MADE[name].model_copy(update={"seed": seed, "scores": {metric: score} | kernels | copies}))
        return tuple(runs)

    after = [value + gap for value, gap in zip(values, gaps, strict=True)]
    return Pair("a", "b", side("cosine", values, 1), side("linear", after, 1 + (kid or 0)))


def judged(runs: Pair, *others: str, metric: str = FD, pairs: int = 1, **options) -> Verdict:
    """The verdict in ``metric``, of a table with so many pairs and these other metrics."""
    seeds = len(runs.after)
    rules = guards.rules(Compare(**options), [metric, *others], pairs, Design((seeds,)))
    return verdict.judge(runs, rules, [seeds])[0]


@pytest.mark.parametrize(("gaps", "options", "outcome", "reason"), [
    (CLEAR[:5], {}, "inconclusive", "fewer than 6 seeds"),
    (CLEAR, {"kid": 0.01}, "worse", ""),
    (CLEAR, {"kid": -0.01}, "inconclusive", "KID moved the other way"),
    (CLEAR, {"kid": 0.0}, "inconclusive", "KID moved the other way"),
    ([gap / 10 for gap in CLEAR], {}, "equivalent", "any gap is below 0.02"),
    ([0.0] * 5, {}, "equivalent", ""),
    ([0.0] * 4, {}, "inconclusive", ""),  # a one-sided sign-flip test cannot reach 5% with fewer
    ([0.05, -0.03, 0.06, 0.01, -0.02, 0.07], {}, "inconclusive", "the interval contains 0"),
    # what the t test takes for a difference, and the signs do not
    ([-0.001, *(0.2 + gap for gap in CLEAR[:5])], {}, "inconclusive", "the sign-flip test does not agree"),
])  # fmt: skip
def test_what_is_called_what(gaps, options, outcome, reason):
    found = judged(pair(gaps, **options))
    assert found.outcome == outcome
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("metric", [FD, "classifier.precision", "bits_per_dim"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_what_copies_train_images_is_no_better_whichever_side_it_is(metric, sign):
    gaps = [sign * gap for gap in CLEAR]
    honest = judged(pair(gaps, metric), metric=metric)
    arm, baseline = (judged(pair(gaps, metric, copying=name), metric=metric) for name in ("linear", "cosine"))
    winner, loser = (arm, baseline) if honest.outcome == "better" else (baseline, arm)
    assert winner.outcome == "inconclusive"
    assert winner.reason == f"{'b' if honest.outcome == 'better' else 'a'} copies train images (pixels)"
    assert winner.headline == winner.reason  # how much better copies score is not the news
    assert citation.cite(winner).startswith(winner.reason)
    assert (loser.outcome, loser.reason) == (honest.outcome, "")
    copying = "linear" if honest.outcome == "better" else "cosine"
    assert judged(pair(gaps[:2], metric, copying=copying), metric=metric).overridden  # however few the seeds


@pytest.mark.parametrize(("before", "after", "outcome"), [
    (1054, 620, "useless"), (3, 63, "useless"), (1086, 1086, "useless"), (9, 8, "useless"), (63, 3, "better"),
    (7.9, 3, "better"), (3, 7.9, "worse")
])  # fmt: skip
def test_a_likelihood_no_better_than_a_uniform_guess_is_useless(before, after, outcome):
    gaps = [after - before + noise for noise in (0.0, 0.01, 0.02, 0.0, 0.01, 0.02)]
    assert judged(pair(gaps, "bits_per_dim", baseline=before), metric="bits_per_dim").outcome == outcome


EYES = {"panel.classifier": 0.2, "panel.c2st": 0.3, "random_conv.recall": 0.8}


def seen(primary: str, gaps: Sequence[float], others: dict[str, float], level: float = 0.2) -> Pair:
    """Runs whose primary scores differ by ``gaps``, and whose ``EYES`` differ by ``others``, up to a little noise."""
    runs = pair(gaps, primary, baseline=level)

    def with_eyes(run: Record, shift: bool) -> Record:
        shown = {
            name: value + shift * others.get(name, 0.0) + 0.001 * (run.seed or 0) * shift
            for name, value in EYES.items()
        }
        return run.model_copy(update={"scores": run.scores | shown})

    before, after = (
        tuple(with_eyes(run, shift) for run in side) for shift, side in ((0, runs.before), (1, runs.after))
    )
    return runs._replace(before=before, after=after)


@pytest.mark.parametrize("primary", [metrics.PANEL, FD])
@pytest.mark.parametrize(
    ("gap", "others", "against"),
    [
        (-1, {"panel.c2st": 0.2}, ["panel.c2st"]),
        (-1, {"random_conv.recall": -0.1, "panel.classifier": 0.1}, ["panel.classifier", "random_conv.recall"]),
        (-1, {"panel.c2st": -0.2, "random_conv.recall": 0.1}, []),
        (-1, {"panel.c2st": 0.004}, []),  # within the margin
        (1, {"panel.c2st": -0.2}, ["panel.c2st"]),
        (1, {"panel.c2st": 0.2}, []),
    ],
)
def test_a_verdict_that_another_eye_contradicts_is_mixed_and_names_it(primary, gap, others, against):
    found = judged(seen(primary, [gap * size for size in CLEAR], others), metric=primary)
    assert found.outcome == ("mixed" if against else "better" if gap < 0 else "worse")
    assert [name for name in EYES if name in found.reason] == [name for name in EYES if name in against]
    assert all(name in text for name in against for text in (found.headline, citation.cite(found)))


@pytest.mark.parametrize(
    ("level", "gap", "outcome"),
    [(0.2, 1, "mixed"), (0.2, -1, "mixed"), (0.8, 1, "worse"), (1.2, -1, "better")],
)
def test_the_recall_of_what_is_behind_a_gaussian_contradicts_nothing(level, gap, outcome):
    runs = seen(metrics.PANEL, [0.5 * gap + 0.01 * size for size in CLEAR], {"random_conv.recall": 0.1 * gap}, level)
    assert judged(runs, metric=metrics.PANEL).outcome == outcome


@pytest.mark.parametrize(("level", "outcome"), [(0.5, "better"), (1.4, "too early")])
@pytest.mark.parametrize("primary", [metrics.PANEL, FD])
def test_the_panel_decides_whether_it_is_too_early(primary, level, outcome):
    """Not a single eye, which may see a Gaussian's images as better or worse than they are."""
    runs = seen(primary, [-gap for gap in CLEAR], {}, level=1.0 if primary == FD else level)
    gaussian = {metrics.PANEL: level, f"{metrics.GAUSSIAN}.{FD}": 0.1}
    sides = (
        tuple(run.model_copy(update={"scores": gaussian | run.scores}) for run in side)
        for side in (runs.before, runs.after)
    )
    assert judged(Pair("a", "b", *sides), metric=primary).outcome == outcome


def test_a_score_of_a_program_is_not_called_by_one_of_ours():
    names = {"score": "score", "fd": "fd", "panel.score": "panel score", FD: "FD", "bits_per_dim": "bits per dimension"}
    assert {name: metrics.title(name) for name in names} == names
