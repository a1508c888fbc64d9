"""Verdicts, and the rules for pairing runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ddpm.compare import tables, too_early
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.params.config import Compare
from ddpm.runs.alike import Gathered, Run
from ddpm.verdicts import citation, metrics, statistics
from ddpm.verdicts import verdict as comparison
from ddpm.verdicts.pairing import Pair
from ddpm.verdicts.verdict import Verdict
from tests.scored import result, working

BY = ("diffusion.schedule.name",)
SIX = range(6)
(UNCHECKED,) = too_early.note([result()], "classifier.fd")


COPIES = {"memorisation.pixels.share": 0.4, "memorisation.pixels.limit": 0.14}


def pair(
    gaps: Sequence[float],
    metric: str = "classifier.fd",
    kid: float | None = None,
    baseline: float = 1.0,
    copying: str = "",
) -> Pair:
    """Runs whose scores in ``metric`` differ by ``gaps``; ``kid``: the difference of the kernel distance.

    copying: the schedule whose last run copies its train images.
    """
    shared = [baseline + 0.003 * seed for seed in range(len(gaps))]

    def side(name: str, values: Sequence[float], kernel: float) -> tuple[Run, ...]:
        kernels = {} if kid is None else {"classifier.kid_mean": kernel}
        found = [result(name, seed, scores={metric: value} | kernels) for seed, value in enumerate(values)]
        found[-1].scores.update(COPIES if name == copying else COPIES | {"memorisation.pixels.share": 0.14})
        return tuple(found)

    after = [value + gap for value, gap in zip(shared, gaps, strict=True)]
    return Pair("a", "b", side("cosine", shared, 1), side("linear", after, 1 + (kid or 0)))


def judged(*pairs: Pair, metric: str = "classifier.fd", **options: Any) -> Verdict:
    """The verdict on the first pair."""
    return comparison.judge(pairs, [metric], Compare(**options))[0]


CLEAR = [0.050, 0.052, 0.048, 0.051, 0.049, 0.050]


@pytest.mark.parametrize("metric", ["classifier.fd", "classifier.precision", "inception.fid", "bits_per_dim"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_clear_gap_is_better_or_worse_by_the_metrics_direction(metric: str, sign: int) -> None:
    verdict = judged(pair([sign * gap for gap in CLEAR], metric), metric=metric)
    assert verdict.outcome == ("better" if metrics.gain(metric, sign) > 0 else "worse")
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low * verdict.high > 0
    assert verdict.difference == pytest.approx(sign * 0.05)
    assert verdict.sign_flip_p == 1 / 32
    assert verdict.more_seeds is None


@pytest.mark.parametrize(
    ("sign", "other", "ending"),
    [
        (1, "inception.fid", "worse in classifier.fd, worse in inception.fid: they agree"),
        (
            -1,
            "inception.fid",
            "worse in classifier.fd, better in inception.fid: they disagree: no verdict about images",
        ),
        (0.2, "dinov2.fd", "worse in classifier.fd, inconclusive in dinov2.fd"),
    ],
)
def test_two_representations_agree_disagree_or_leave_it_open(sign: float, other: str, ending: str) -> None:
    gaps = CLEAR if sign != 0.2 else [0.5, -0.3, 0.4, -0.2, 0.1, 0.3]
    verdicts = [
        comparison.judge([pair([sign * gap for gap in gaps], metric)], [metric], Compare())[0]
        for metric, sign, gaps in (("classifier.fd", 1, CLEAR), (other, sign, gaps))
    ]
    assert tables.representations(verdicts, "classifier.fd") == [f"b, by each extractor's features: {ending}"]
    assert tables.representations(verdicts[:1], "classifier.fd") == []
    assert tables.representations(verdicts, "classifier.recall") == []


def test_five_seeds_are_too_few_for_better_or_worse() -> None:
    verdict = judged(pair(CLEAR[:5]))
    assert verdict.outcome == "inconclusive"
    assert verdict.reason == (
        "fewer than 6 seeds; about 1 more seed would settle it if the true difference is as seen, 1 if it is as near "
        "to the margin as the interval allows"
    )
    assert verdict.more_seeds == (1, 1)


@pytest.mark.parametrize(("kid", "outcome"), [(0.01, "worse"), (-0.01, "inconclusive"), (0.0, "inconclusive")])
def test_kid_has_to_agree_where_it_was_measured(kid: float, outcome: str) -> None:
    verdict = judged(pair(CLEAR, kid=kid))
    assert verdict.outcome == outcome
    assert (verdict.reason == "KID moved the other way") == (outcome == "inconclusive")


@pytest.mark.parametrize("metric", ["classifier.fd", "classifier.precision", "bits_per_dim"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_what_copies_train_images_is_no_better_whichever_side_it_is(metric: str, sign: int) -> None:
    gaps = [sign * gap for gap in CLEAR]
    honest = judged(pair(gaps, metric), metric=metric)
    variant, baseline = (judged(pair(gaps, metric, copying=name), metric=metric) for name in ("linear", "cosine"))
    winner, loser = (variant, baseline) if honest.outcome == "better" else (baseline, variant)
    assert winner.outcome == "inconclusive"
    assert winner.reason == f"{'b' if honest.outcome == 'better' else 'a'} copies train images (pixels)"
    assert winner.more_seeds is None
    assert (loser.outcome, loser.reason) == (honest.outcome, "")


def test_a_certain_gap_below_the_threshold_is_equivalent() -> None:
    small = [gap / 10 for gap in CLEAR]
    assert judged(pair(small)).outcome == "equivalent"
    assert judged(pair(small), threshold=0.004, floors={}).outcome == "worse"


def test_identical_runs_are_equivalent() -> None:
    """From five seeds on: a one-sided sign-flip test cannot reach 5% with fewer."""
    assert [judged(pair([0.0] * n)).outcome for n in (4, 5)] == ["inconclusive", "equivalent"]


UNSURE = [0.02, 0.05, 0.03, 0.09, 0.01, 0.06]


def test_what_one_pair_would_show_can_be_lost_among_many() -> None:
    noise = pair([0.05, -0.05, 0.02, -0.03, 0.01, 0.0])
    alone, among = judged(pair(UNSURE)), judged(pair(UNSURE), *[noise] * 5)
    assert alone.outcome == "worse"
    assert among.outcome == "inconclusive"
    assert among.reason.startswith("not after adjusting for 6 verdicts")
    assert alone.p == among.p == alone.adjusted_p
    assert among.adjusted_p == pytest.approx(6 * among.p)


def test_what_one_metric_would_show_can_be_lost_among_many() -> None:
    """Six metrics at one look, each tested as if it were alone, give a false verdict 15 times in 100."""
    both = pair(UNSURE)
    others = ["bits_per_dim", *(f"classifier.{name}" for name in ("is_mean", "precision", "recall"))]
    for run in (*both.before, *both.after):
        run.scores.update(dict.fromkeys(others, 0.5))
    first, *_ = comparison.judge([both], ["classifier.fd", *others], Compare())
    assert first.adjusted_p == pytest.approx(5 * first.p)
    assert first.outcome == "inconclusive"


def test_equivalence_is_adjusted_as_well() -> None:
    """Without that, any of five pairs that differ by the threshold was called equivalent 18 times in 100."""
    near = pair([0.018, -0.018, 0.018, -0.0135, 0.009, 0.0])
    alone, among = judged(near), judged(*[near] * 5)
    assert (alone.outcome, among.outcome) == ("equivalent", "inconclusive")
    assert alone.equivalence_p == among.equivalence_p


def test_the_intervals_of_a_table_hold_together() -> None:
    alone, among = judged(pair(CLEAR)), judged(*[pair(CLEAR)] * 10)
    wider = judged(pair(CLEAR), confidence=0.995)
    assert (among.low, among.high) == pytest.approx((wider.low, wider.high))
    assert (among.low or 0) < (alone.low or 0)


@pytest.mark.parametrize(("metric", "baseline", "margin"), [
    ("classifier.fd", 10.0, 0.13), ("classifier.fd", 0.5, 0.02), ("classifier.kid_mean", 0.001, 0.0005),
    ("bits_per_dim", 3.4, 0.01), ("classifier.recall", 0.9, 0.01), ("classifier.fd_infinity", 0.5, 0.02),
])  # fmt: skip
def test_the_gap_that_matters_is_the_metrics_own(metric: str, baseline: float, margin: float) -> None:
    assert metrics.margin(metric, baseline, Compare()) == pytest.approx(margin)
    assert metrics.margin(metric, baseline, Compare(floors={})) == pytest.approx(0.013 * baseline)


def test_a_verdict_in_words() -> None:
    assert judged(pair(CLEAR)).headline == "b is worse: FD 5.0% higher, 6 of 6 seeds"
    assert judged(pair([-0.2, -0.3, 0.1, -0.2, -0.2])).headline == "b is inconclusive: FD 16% lower, 4 of 5 seeds"
    one = comparison.described("classifier.fd", pair([0.5], baseline=0.0), Compare())
    assert comparison.Described(**one).headline == "b is inconclusive: FD 0.5 higher, 1 of 1 seed"


def test_an_unsure_gap_says_how_many_more_seeds_would_settle_it_and_on_what_condition() -> None:
    verdict = judged(pair([0.05, -0.03, 0.06, 0.01, -0.02, 0.07]))
    assert verdict.outcome == "inconclusive"
    assert verdict.more_seeds
    assert verdict.reason == (
        f"the interval holds 0; about {verdict.more_seeds[0]} more seeds would settle it if the true difference is as "
        "seen, more than 200 if it is as near to the margin as the interval allows"
    )
    expected = statistics.seeds_needed(
        verdict.difference, np.std(verdict.differences, ddof=1), verdict.margin, 0.95, 0.8
    )
    assert verdict.more_seeds == ((expected or 0) - 6, None)


def test_an_unsure_gap_beyond_the_threshold_needs_more_seeds_the_nearer_its_interval_comes() -> None:
    verdict = judged(pair([0.05, 0.08, 0.02, 0.06, 0.04]))
    assert verdict.low is not None
    near = statistics.seeds_needed(verdict.low, np.std(verdict.differences, ddof=1), verdict.margin, 0.95, 0.8)
    assert verdict.more_seeds == (1, (near or 0) - 5)
    assert near
    assert near > 6


def test_a_gap_that_no_number_of_seeds_would_settle_as_it_is_says_so() -> None:
    verdict = judged(pair([0.013, 0.033, -0.007, 0.113, -0.087, 0.013]))
    assert verdict.more_seeds is None
    assert verdict.reason == "the interval holds 0; 200 seeds would not settle it if the true difference is as seen"


def studies(mean: float, seeds: int) -> list[tuple[Verdict, list[bool]]]:
    """Inconclusive verdicts on differences of that mean and a standard deviation of 0.1; and for each number of seeds
    that they name, whether so many more settled it."""
    found = []
    for differences in mean + 0.1 * np.random.default_rng(3).standard_normal((24, seeds + statistics.MOST_SEEDS)):
        verdict = judged(pair(differences[:seeds].tolist()))
        if verdict.outcome == "inconclusive":
            named = [seeds + more for more in verdict.more_seeds or () if more]
            later = [judged(pair(differences[:count].tolist())) for count in named]
            found.append((verdict, [each.outcome != "inconclusive" for each in later]))
    return found


def test_where_nothing_differs_no_number_of_seeds_is_promised() -> None:
    """Most such studies name a number of seeds for an observed difference, but it rarely settles them: hence the if."""
    found = studies(0.0, 6)
    as_seen = [settled[0] for _, settled in found if settled]
    assert len(as_seen) > len(found) / 3
    assert np.mean(as_seen) < 0.3
    assert all("if the true difference is as seen" in verdict.reason for verdict, _ in found)
    assert all(len(settled) < 2 for _, settled in found)


def test_where_there_is_an_effect_the_larger_number_settles_it_as_often_as_it_says() -> None:
    found = studies(0.2, 5)
    as_near_as_can_be = [settled[1] for _, settled in found if len(settled) == 2]
    assert len(as_near_as_can_be) > len(found) / 3
    assert np.mean(as_near_as_can_be) >= Compare().power


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([2, 5, 6, 7]), st.floats(0, 3), st.integers(1, 3))
def test_a_verdict_never_contradicts_its_interval(seed: int, n: int, effect: float, pairs: int) -> None:
    gaps = 0.02 * (effect + np.random.default_rng(seed).standard_normal((pairs, n)))
    for verdict in comparison.judge([pair(row.tolist()) for row in gaps], ["classifier.fd"], Compare()):
        assert verdict.low is not None
        assert verdict.high is not None
        if verdict.outcome in ("better", "worse"):
            assert verdict.low * verdict.high > 0
            assert abs(verdict.difference) > verdict.margin
        if verdict.outcome == "equivalent":
            assert abs(verdict.difference) < verdict.margin
        assert (verdict.more_seeds is None) or verdict.outcome == "inconclusive"
        assert bool(verdict.reason) == (verdict.outcome in ("equivalent", "inconclusive"))


# --- comparisons


def runs(schedule: str, fd: float, seeds: Sequence[int] = SIX, **fields: Any) -> list[Run]:
    return [result(schedule, seed, fd + 0.01 * seed + 0.001 * (seed * 7 % 5), **fields) for seed in seeds]


def compare(*found: Run, **options: Any) -> comparison.Comparison:
    return comparison.compare(Gathered(found, ()), options.pop("by", BY), options.pop("here", working()), **options)


def refusal(*found: Run, **options: Any) -> str:
    with pytest.raises(UserError) as refused:
        compare(*found, **options)
    return str(refused.value)


def test_each_variant_stands_against_the_working_params_variant() -> None:
    found = compare(*runs("linear", 2), *runs("cosine", 1), *runs("sigmoid", 0.5))
    assert [arm.label for arm in found.arms] == ["cosine", "linear", "sigmoid"]
    assert [(row.variant, row.baseline, row.outcome) for row in found.verdicts] == [
        ("linear", "cosine", "worse"),
        ("sigmoid", "cosine", "better"),
    ]


def test_without_the_working_variant_the_first_is_the_baseline_and_all_pairs_can_be_had() -> None:
    here = working(diffusion__schedule={"name": "jsd"})
    found = compare(*runs("linear", 2), *runs("cosine", 1), *runs("sigmoid", 0.5), here=here, all_pairs=True)
    pairs = [(row.variant, row.baseline) for row in found.verdicts]
    assert pairs == [("linear", "cosine"), ("sigmoid", "cosine"), ("sigmoid", "linear")]


def test_runs_of_one_seed_are_partners_in_whatever_order_they_come() -> None:
    found = compare(*reversed(runs("linear", 2)), *runs("cosine", 1))
    (verdict,) = found.verdicts
    assert verdict.seeds == tuple(SIX)
    assert verdict.baseline_scores == tuple(run.scores["classifier.fd"] for run in runs("cosine", 1))
    assert verdict.differences == pytest.approx([1.0] * 6)


def test_seeds_without_a_partner_are_left_out_and_said() -> None:
    found = compare(*runs("cosine", 1, range(8)), *runs("linear", 2, range(1, 7)))
    assert found.verdicts[0].seeds == (1, 2, 3, 4, 5, 6)
    assert "linear against cosine: cosine's seeds 0 7 left out, which linear does not have" in found.notes


def test_a_variant_with_too_few_seeds_does_not_hinder_the_others() -> None:
    found = compare(*runs("cosine", 1), *runs("linear", 2), *runs("sigmoid", 3, [0]))
    assert {row.variant for row in found.verdicts} == {"linear"}
    assert any("left out: sigmoid against cosine: 1 seed in common" in note for note in found.notes)


@pytest.mark.parametrize(
    ("seeds", "says"),
    [([0], "1 seed in common"), ([7, 8], "no seed in common (cosine has seeds 0 1 2 3 4 5, linear has seeds 7 8)")],
)
def test_fewer_than_two_common_seeds_are_refused(seeds: list[int], says: str) -> None:
    assert f"linear against cosine: {says}" in refusal(*runs("cosine", 1), *runs("linear", 2, seeds))


def test_other_hyperparameters_of_the_same_schedule_are_another_variant() -> None:
    mild = {"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.01}}}
    found = compare(*runs("cosine", 1), *runs("linear", 2), *runs("linear", 3, params=mild))
    assert [arm.label for arm in found.arms] == [
        "cosine",
        "linear (linear.beta_end=0.01)",
        "linear (linear.beta_end=0.02)",
    ]


def test_a_section_varies_with_all_that_is_in_it() -> None:
    steps = [run for number in (5, 4) for run in runs("cosine", number, params={"sample__steps": number})]
    found = compare(*steps, by=["sample"])
    assert [arm.label for arm in found.arms] == ["steps=5", "steps=4"]
    assert found.fingerprint == "e" * 64


def test_several_keys_make_a_variant_together() -> None:
    v_linear = runs("linear", 2)
    x0_cosine = runs("cosine", 3, params={"diffusion__parameterization": {"name": "x0"}})
    found = compare(*runs("cosine", 1), *v_linear, *x0_cosine, by=[*BY, "diffusion.parameterization.name"])
    assert [arm.label for arm in found.arms] == ["cosine, v", "cosine, x0", "linear, v"]


def test_a_run_that_differs_in_anything_else_takes_no_part() -> None:
    other = runs("linear", 2, params={"train__learning_rate": 0.5})
    assert "only cosine was run" in (line := refusal(*runs("cosine", 1), *other))
    assert "the nearest, linear-0, differs in train.learning_rate (0.5 there, 0.001 here)" in line


def test_mechanical_keys_may_differ() -> None:
    other = runs("linear", 2, params={"device": "cuda", "sample__batch_size": 7, "train__checkpoint_every": 1})
    assert compare(*runs("cosine", 1), *other).verdicts


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"fingerprint": "a" * 64}, {}, "fingerprints differ, so these scores can't be compared (fffffff: cosine-0, "),
        ({"images_seen": 97}, {}, "images seen differ: cosine 96, linear 97: a gap may be theirs"),
        ({"parameters": 2000}, {"may_differ": ["evaluations"]}, "parameters differ: cosine 1,000, linear 2,000"),
        ({"evaluations": 6}, {}, "evaluations differ: cosine 5, linear 6"),
        ({"precision": "bfloat16"}, {}, "precision differ: cosine float32, linear bfloat16"),
        ({"processor": "a GPU"}, {"may_differ": ["precision"]}, "processor differ: cosine a CPU, linear a GPU"),
        ({"scores": {"classifier.fd": float("nan")}}, {}, "linear-0 (dvc), seed 0: classifier.fd is nan"),
        ({}, {"chosen": ["classifier.fdd"]}, "no run has 'classifier.fdd' (did you mean 'classifier.fd'?); allowed: "),
        (
            {},
            {"by": ["diffusion.schedul.name"]},
            "no run has the key 'diffusion.schedul.name' (did you mean 'diffusion",
        ),
        ({}, {"by": ["seed"]}, "--by seed: runs are paired by seed"),
        ({}, {"by": ["diffusion.loss.name"], "here": working()}, "--by diffusion.loss.name: only simple was run"),
        ({"scores": {"bits_per_dim": 1.0}}, {}, "no metric is in all runs; in some: classifier.fd, bits_per_dim"),
        (
            {"scores": {"bits_per_dim": 1.0}},
            {"chosen": ["classifier.fd"]},
            "classifier.fd is missing in linear-0",
        ),
    ],
)
def test_what_must_not_be_compared_is_refused(changes: dict[str, Any], options: dict[str, Any], says: str) -> None:
    linear = [result("linear", seed, 2.0, **changes) for seed in SIX]
    assert says in refusal(*runs("cosine", 1), *linear, **options)


def test_a_budget_may_differ_where_that_is_allowed() -> None:
    found = compare(*runs("cosine", 1), *runs("linear", 2, images_seen=97), may_differ=["images_seen"])
    assert [arm.spent("images_seen") for arm in found.arms] == [[96], [97]]
    assert "images seen differ: cosine 96, linear 97" in found.notes


@pytest.mark.parametrize("what", ["precision", "processor"])
def test_seeds_that_differ_in_all_arms_alike_are_a_note_and_partners_that_differ_are_refused(what: str) -> None:
    def arm(schedule: str, fd: float, other: Sequence[int]) -> list[Run]:
        return [
            result(schedule, seed, fd + 0.01 * seed, **{what: "another" if seed in other else "one"}) for seed in SIX
        ]

    found = compare(*arm("cosine", 1, [0, 1]), *arm("linear", 2, [0, 1]))
    assert f"{what} differ: cosine another or one, linear another or one" in found.notes
    assert found.verdicts[0].outcome == "worse"
    assert f"{what} differ" in refusal(*arm("cosine", 1, [0, 1]), *arm("linear", 2, [0, 2]))
    unknown = [replace(run, **{what: None}) for run in arm("linear", 2, [])]
    assert compare(*arm("cosine", 1, []), *unknown).verdicts


OTHER = {"ddpm/training": "another", "ddpm/compute": "0"}


def test_runs_of_other_code_are_refused_or_told() -> None:
    says = "code differs in ddpm/training: cosine-0, cosine-1, cosine-2 and 3 more; linear-0, linear-1, linear-2"
    runs_of_both = [*runs("cosine", 1), *runs("linear", 2, code=OTHER)]
    line = refusal(*runs_of_both)
    assert line.startswith(says)
    assert line.endswith("`may_differ: [code]` in the plan, or `--may-differ code`")
    (note,) = [note for note in compare(*runs_of_both, may_differ=["code"]).notes if note.startswith(says)]
    assert "may_differ" not in note


def test_each_variants_own_files_are_no_other_code() -> None:
    cosine, linear = (
        {"ddpm/training": "0", f"ddpm/variants/schedules/{name}.py": name} for name in ("cosine", "linear")
    )
    assert compare(*runs("cosine", 1, code=cosine), *runs("linear", 2, code=linear)).verdicts
    changed = linear | {"ddpm/variants/schedules/linear.py": "edited"}
    mixed = [result("linear", seed, 2.0, code=changed if seed else linear) for seed in SIX]
    assert refusal(*runs("cosine", 1, code=cosine), *mixed).startswith(
        "code differs in ddpm/variants/schedules/linear.py: "
    )


def test_samplers_are_compared_without_the_fingerprint_of_sampling() -> None:
    ancestral = runs("cosine", 2, params={"sample__sampler": {"name": "ancestral"}}, fingerprint="a" * 64)
    found = compare(*runs("cosine", 1), *ancestral, by=["sample.sampler.name"])
    assert (found.fingerprint, found.verdicts[0].variant) == ("e" * 64, "ancestral")
    unknown = [result("cosine", seed, params={"sample__sampler": {"name": "heun"}}, fingerprint_without_sampling=None)
               for seed in SIX]  # fmt: skip
    assert "has no hash_without_sampling" in refusal(*runs("cosine", 1), *unknown, by=["sample.sampler.name"])


def test_samplers_are_compared_in_one_precision_unless_it_is_what_varies() -> None:
    """``auto`` may resolve differently on each machine, and hash_without_sampling leaves it out."""
    ours = runs("cosine", 1, sampling_precision="bfloat16")
    by: dict[str, dict[str, Any]] = {
        "sample.steps": {"sample__steps": 4},
        "sample.precision": {"sample__precision": "bfloat16"},
    }
    for key, params in by.items():
        same, other = (
            runs("cosine", 2, params=params, sampling_precision=precision) for precision in ("bfloat16", "float32")
        )
        assert compare(*ours, *same, by=[key]).verdicts
        if key == "sample.precision":
            assert compare(*ours, *other, by=[key]).verdicts
        else:
            assert "eeeeeee drawn in bfloat16: cosine-0, " in refusal(*ours, *other, by=[key])


def test_metrics_are_those_that_all_runs_have_the_headline_first() -> None:
    scores = {
        "bits_per_dim": 1.0,
        "a.recall": 0.5,
        "a.kid_mean": 0.1,
        "a.fd": 2.0,
        "a.kid_std": 1.0,
        "a.fd_infinity": 1.0,
    }
    found = [result(name, seed, scores=scores) for name in ("cosine", "linear") for seed in SIX]
    assert compare(*found).metrics == ("a.fd", "a.kid_mean", "a.recall", "bits_per_dim")
    assert compare(*found, chosen=["bits_per_dim", "a.fd_infinity", "a.fd"]).metrics == (
        "a.fd",
        "a.fd_infinity",
        "bits_per_dim",
    )


def test_what_was_not_gathered_is_said_with_a_comparison_and_with_its_failure() -> None:
    notes = ("left out x: broken",)
    found = comparison.compare(Gathered((*runs("cosine", 1), *runs("linear", 2)), notes), BY, working())
    assert notes[0] in found.notes
    with pytest.raises(UserError, match=r"only cosine was run.*; left out x: broken"):
        comparison.compare(Gathered((*runs("cosine", 1),), notes), BY, working())


@pytest.mark.parametrize("recall", [0.003, 0.6])
def test_between_two_variants_that_a_gaussian_beats_it_is_too_early_for_any_verdict(recall: float) -> None:
    """However small their shares are: these say nothing about it."""

    def drawn(name: str, fd: float) -> list[Run]:
        yardstick = {"yardsticks.gaussian.classifier.fd": 12.0, "yardsticks.gaussian.classifier.count": 720}
        own = [{"classifier.fd": fd + seed / 100, "classifier.recall": recall, **yardstick} for seed in SIX]
        return [result(name, seed, scores=own[seed]) for seed in SIX]

    poor, drowned, fine = drawn("cosine", 30), drawn("linear", 50), drawn("sigmoid", 9)
    found = compare(*poor, *drowned, *fine)
    outcomes = {(each.variant, each.metric): each.outcome for each in found.verdicts}
    assert outcomes["linear", "classifier.fd"] == outcomes["linear", "classifier.recall"] == "too early"
    assert outcomes["sigmoid", "classifier.fd"] == "better", "one of them has learned something"
    assert too_early.exit_code(found.verdicts, "classifier.fd") == 0
    alone = compare(*poor, *drowned)
    assert too_early.exit_code(alone.verdicts, "classifier.fd") == too_early.NO_ANSWER
    assert "a Gaussian 12" in alone.verdicts[0].headline
    assert "a Gaussian 12 (N = 720)" in alone.notes[-1]


def test_a_gaussian_with_a_higher_recall_decides_nothing() -> None:
    scores = {"yardsticks.gaussian.classifier.recall": 0.9, "yardsticks.gaussian.classifier.count": 5}
    both = [
        result(name, seed, scores=scores | {"classifier.recall": recall + seed / 1000})
        for name, recall in (("cosine", 0.4), ("linear", 0.6))
        for seed in SIX
    ]
    assert compare(*both).verdicts[0].outcome == "better"


def test_whichever_variant_copies_is_said_with_its_seeds() -> None:
    linear = runs("linear", 2)
    for run in linear[:2]:
        run.scores.update(COPIES)
    notes = compare(*runs("cosine", 1), *linear).notes
    assert "linear copies train images (pixels) with seeds 0 1" in notes
    assert not any("cosine copies" in note for note in notes)


# --- what a verdict does not claim, and how it is cited


def test_a_likelihood_no_better_than_a_uniform_guess_is_useless_and_one_below_may_be_better() -> None:
    def bits(before: float, after: float) -> Verdict:
        pairs = [result(name, seed, scores={"bits_per_dim": mean + 0.01 * seed})
                 for name, mean in (("cosine", before), ("linear", after)) for seed in SIX]  # fmt: skip
        return compare(*pairs).verdicts[0]

    for before, after in ((1054, 620), (3, 63), (1086, 1086), (9, 8)):
        assert bits(before, after).outcome == "useless"
    assert "8 bits" in bits(3, 63).reason
    assert (bits(63, 3).outcome, bits(7.9, 3).outcome, bits(3, 7.9).outcome) == ("better", "better", "worse")


@pytest.mark.parametrize(("last", "noted"), [(0.06, False), (0.9, True)])
def test_a_verdict_on_skewed_differences_says_so(last: float, noted: bool) -> None:
    gaps = [0.3, 0.31, 0.32, 0.33, 0.34, 0.35, 0.36, 0.34 + last]
    found = compare(
        *(run for seed, gap in enumerate(gaps) for run in (result(seed=seed), result("linear", seed, 1 + gap)))
    )
    assert found.verdicts[0].outcome == "worse"
    assert any("skewed differences" in note and "linear in classifier.fd" in note for note in found.notes) == noted


def test_what_pairing_gained_is_a_detail() -> None:
    found = compare(*runs("cosine", 1), *runs("linear", 2))
    assert not any("pairing" in line for line in tables.headlines(found.verdicts, "classifier.fd"))
    assert any(note.startswith("pairing by seed left ") for note in found.notes)


def test_a_verdict_is_a_sentence_that_says_all_that_it_rests_on() -> None:
    real = {"real.classifier.fd": 0.178, "real.classifier.count": 359.0}
    arms = [
        result(schedule, seed, scores={"classifier.fd": fd + 0.01 * seed, **real}, evaluations=steps,
               params={"sample__steps": steps})
        for schedule, fd, steps in (("cosine", 1.0, 5), ("linear", 2.0, 4)) for seed in SIX
    ]  # fmt: skip
    found = compare(*arms, by=[*BY, "sample.steps"], may_differ=["evaluations"])
    seen, run = found.verdicts[0], arms[0]
    line = citation.sentence(seen)
    assert line.startswith(
        f"{seen.variant} is worse than {seen.baseline} in FD (lower is better): 2.025 against 1.025, "
    )
    name, shape = run.params["data.dataset.name"], f"{run.params['data.image_size']}x{run.params['data.image_size']}"
    for part in (
        f"{seen.low:+.3g} to {seen.high:+.3g}, 95% interval, adjusted for a table of 1)", "6 paired training seeds",
        f"{name} {shape}", "96 images seen", "1,000 parameters", "in 4 steps against", "in 5 steps",
        f"{run.params['sample.count']:,} samples", "features of classifier", "359 real images have 0.178",
    ):  # fmt: skip
        assert part in line
    written = tables.to_dict(found)["verdicts"][0]
    assert written["sentence"] == line
    assert written["bibtex"] == citation.bibtex(seen)
    assert line in "\n".join(tables.notes(found))


def test_bibtex_escapes_what_latex_would_read() -> None:
    seen = replace(judged(pair(CLEAR)), variant="a_b", baseline="50% & {c}^~#$\\", setting="x_y")
    text = citation.bibtex(seen)
    assert text.startswith("@misc{ddpm-a-b-50-c-classifier-fd,\n")
    body = text.replace("\\_", "").replace("\\%", "").replace("\\&", "").replace("\\#", "").replace("\\$", "")
    assert not set("_%&#$^~") & set(body)
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert "a\\_b" in text
    assert "\\textbackslash{}" in text
