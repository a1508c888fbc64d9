"""What a study decides at which look, and how often anything in its table is false."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ddpm.compare import too_early
from ddpm.pages import compared
from ddpm.pages.compared import Compared
from ddpm.study.verdict import PRIMARY, Finding, Findings

from ddpm.base.errors import UserError
from ddpm.report.blocks import Figure, Table
from ddpm.runs.alike import Run
from ddpm.study import tuning, verdict
from ddpm.study.grid import Point
from ddpm.study.plan import Plan, Study
from ddpm.verdicts import statistics
from ddpm.verdicts.sequential import Design
from ddpm.verdicts.statistics import Array
from ddpm.verdicts.tuning import Tried
from tests.scored import result, working

FD = "classifier.fd"
METRICS = (FD, "classifier.kid_mean", "classifier.is_mean", "classifier.precision", "classifier.recall", "bits_per_dim")
ALPHA = 0.05
LOOKS = (8, 12, 16, 20)
Runs = dict[int, Run]
# a run of each schedule, to be given scores and seeds: checking a run's params takes longer than anything else here
MADE = {schedule: result(schedule) for schedule in ("cosine", "linear", "sigmoid", "jsd")}


def study(*variants: str, **changes: Any) -> Study:
    """A study of these schedules, with cosine as the baseline."""
    names = ("cosine", *variants)
    plan = Plan(question="Which?", variants={name: {"diffusion.schedule.name": name} for name in names}, **changes)
    checked = {name: working(diffusion__schedule={"name": name}) for name in names}
    return Study("schedules", plan, {}, checked)


def scored(schedule: str, seed: int, scores: dict[str, float]) -> Run:
    return replace(MADE[schedule], name=f"{schedule}-{seed}", seed=seed, scores=scores)


def noise(count: int, seed: int = 0) -> Array:
    """The noise of so many seeds, with mean 0 and standard deviation 1 at each look."""
    drawn = np.random.default_rng(seed).standard_normal(max(LOOKS))
    for start, end in ((0, 8), (8, 12), (12, 16), (16, 20)):
        part = drawn[start:end] - drawn[start:end].mean()
        drawn[start:end] = part / part.std()
    return drawn[:count]


def arms(
    gaps: Sequence[float], metric: str = FD, first: int = 0, baseline: float = 1.0, **other: float
) -> dict[str, Runs]:
    """Runs of cosine, and of linear, which differs by the gaps; ``other``: a difference in another metric."""
    found: dict[str, Runs] = {"cosine": {}, "linear": {}}
    for place, gap in enumerate(gaps):
        seed, shared = first + place, baseline + 0.1 * math.sin(place)
        alike = {f"classifier.{name}": 0.5 + 0.001 * place for name in other}
        differing = {name: value + other[name.partition(".")[2]] for name, value in alike.items()}
        found["cosine"][seed] = scored("cosine", seed, {metric: shared, **alike})
        found["linear"][seed] = scored("linear", seed, {metric: shared + gap, **differing})
    return found


def primary(found: Findings, variant: str = "linear") -> Finding:
    (one,) = [each for each in found.findings if each.variant == variant and each.metric == found.primary]
    return one


CLEAR = 0.3 + 0.05 * noise(20)


# --- looks


@pytest.mark.parametrize(("seeds", "next_look"), [(0, 8), (1, 8), (7, 8)])
def test_before_the_first_look_nothing_is_tested(seeds: int, next_look: int) -> None:
    found = verdict.judge(study("linear"), arms(CLEAR[:seeds]))
    assert (found.open, found.next_look) == (("cosine", "linear"), next_look)
    for each in found.findings:
        assert (each.outcome, each.look, each.p, each.low, each.estimate) == ("not yet", None, None, None, None)
        assert len(each.seeds) == seeds
    assert bool(found.findings) == bool(seeds)


def test_a_clear_gap_is_decided_at_the_first_look() -> None:
    found = verdict.judge(study("linear"), arms(CLEAR[:8]))
    one = primary(found)
    assert (one.outcome, one.look, one.seeds) == ("worse", 8, tuple(range(8)))
    assert one.headline == "linear is worse: FD 30% higher, 8 of 8 seeds"
    assert one.p is not None
    assert one.p < 0.001
    assert one.low is not None
    assert 0 < one.low < one.difference < (one.high or 0)
    assert (found.open, found.next_look) == ((), None)


def test_what_was_decided_stays_whatever_later_seeds_do() -> None:
    early = verdict.judge(study("linear"), arms(CLEAR[:8]))
    later = verdict.judge(study("linear"), arms([*CLEAR[:8], *(-2 * CLEAR[8:])]))
    assert early == later


@pytest.mark.parametrize("seeds", [12, 13, 15])
def test_a_number_of_seeds_that_is_no_look_is_not_judged(seeds: int) -> None:
    gaps = 0.05 + 0.1 * noise(12)
    found = verdict.judge(study("linear"), arms([*gaps, *[9.0] * (seeds - 12)]))
    assert (primary(found).look, primary(found).outcome, found.next_look) == (12, "not yet", 16)
    assert primary(found).difference == pytest.approx(0.05)


def test_a_seed_that_is_missing_holds_up_the_look() -> None:
    found = arms(CLEAR)
    del found["linear"][3]
    judged = verdict.judge(study("linear"), found)
    assert (primary(judged).outcome, judged.next_look) == ("not yet", 8)
    assert primary(judged).seeds == tuple(seed for seed in range(20) if seed != 3)


def test_seeds_that_are_not_in_the_plan_take_no_part() -> None:
    found = {name: arms([-9.0] * 4)[name] | runs for name, runs in arms(CLEAR[:8], first=4).items()}
    assert primary(verdict.judge(study("linear", first_seed=4), found)).seeds == tuple(range(4, 12))


def test_variants_are_done_with_one_by_one() -> None:
    found = arms(CLEAR[:8])
    found["sigmoid"] = arms(0.05 + 0.1 * noise(8))["linear"]
    judged = verdict.judge(study("linear", "sigmoid"), found)
    assert primary(judged).outcome == "worse"
    assert (judged.open, judged.next_look) == (("cosine", "sigmoid"), 12)


def test_the_last_look_ends_the_study_with_what_another_one_would_need() -> None:
    found = verdict.judge(study("linear"), arms(0.05 + 0.1 * noise(20)))
    one = primary(found)
    assert (one.outcome, one.look, found.open, found.next_look) == ("inconclusive", 20, (), None)
    assert one.reason.startswith("undecided at the plan's last look; in a new study, about ")


# --- what is called what


def test_what_lies_within_the_margin_is_equivalent() -> None:
    one = primary(verdict.judge(study("linear"), arms(0.001 * noise(8))))
    assert (one.outcome, one.look, one.margin) == ("equivalent", 8, 0.02)


def test_a_gap_below_the_margin_is_not_worse_however_sure() -> None:
    assert primary(verdict.judge(study("linear"), arms(0.019 + 0.001 * noise(8)))).outcome == "equivalent"
    assert primary(verdict.judge(study("linear"), arms(0.021 + 0.001 * noise(8)))).outcome == "worse"


def test_margins_are_the_metrics_own() -> None:
    """1.3% of 3.4 bits is four times the gap that counts; for a KID near 0 it is nothing at all."""
    for metric, baseline, gap in (("bits_per_dim", 3.4, 0.01), ("classifier.kid_mean", 0.0, 0.0005)):
        for factor, outcome in ((1.2, "worse"), (0.8, "equivalent")):
            gaps = factor * gap + 0.01 * gap * noise(8)
            found = arms(gaps, metric, baseline=baseline)
            assert primary(verdict.judge(study("linear", primary=metric), found)).outcome == outcome


@pytest.mark.parametrize(("kid", "outcome"), [(0.1, "worse"), (-0.1, "not yet")])
def test_kid_must_not_say_the_opposite(kid: float, outcome: str) -> None:
    assert primary(verdict.judge(study("linear"), arms(CLEAR[:8], kid_mean=kid))).outcome == outcome


def test_what_copies_never_wins_and_needs_no_more_seeds() -> None:
    found = arms(-CLEAR[:8])
    found["linear"][2].scores.update({"memorisation.pixels.share": 0.4, "memorisation.pixels.limit": 0.14})
    judged = verdict.judge(study("linear"), found)
    assert primary(judged).outcome == "inconclusive"
    assert primary(judged).reason == "linear copies train images (pixels)"
    assert judged.open == ()


def test_where_no_verdict_can_be_hoped_for_the_study_ends_but_need_not() -> None:
    gaps = 0.03 + 0.1 * noise(20)
    found = verdict.judge(study("linear"), arms(gaps[:16]))
    assert (primary(found).outcome, primary(found).look, found.open) == ("futile", 16, ())
    chance = int(primary(found).reason.removeprefix("a verdict by 20 seeds has a chance of ").removesuffix("%"))
    assert chance < 10
    assert "linear is unlikely to be decided" in verdict.describe(found)
    clearer = [*gaps[:16], *[0.2] * 4]
    assert primary(verdict.judge(study("linear"), arms(clearer))).look == 20


def test_a_score_that_is_no_number_is_named_and_ends_the_variant() -> None:
    found = arms(CLEAR[:8])
    found["linear"][5].scores[FD] = math.nan
    judged = verdict.judge(study("linear"), found)
    assert (primary(judged).outcome, primary(judged).reason) == ("inconclusive", f"linear-5: {FD} is nan")
    assert judged.open == ()


def test_secondary_metrics_end_with_the_primary_one() -> None:
    found = arms(CLEAR)
    for seed in range(20):  # the bits differ from the ninth seed on
        for name, extra in (("cosine", 0.0), ("linear", 0.02 + 0.5 * (seed > 7))):
            found[name][seed].scores["bits_per_dim"] = 3.0 + 0.2 * math.sin(2.5 * seed + (name == "linear")) + extra
    fd, bits = verdict.judge(study("linear"), found).findings
    assert (fd.look, bits.look, bits.outcome) == (8, 8, "inconclusive")
    assert bits.reason == "undecided at the primary metric's last look"


@pytest.mark.parametrize("variable", ["precision", "processor", "evaluations", "parameters", "images_seen", "code"])
def test_what_the_plan_does_not_let_differ_is_refused(variable: str) -> None:
    others = {"precision": "bfloat16", "processor": "a GPU", "code": {"ddpm/training": "other"}}
    found = arms(CLEAR[:8])
    found["linear"] = {
        seed: replace(run, **{variable: others.get(variable, 7)}) for seed, run in found["linear"].items()
    }
    with pytest.raises(UserError, match=rf"`may_differ: \[{variable}\]` in the plan"):
        verdict.judge(study("linear"), found)
    judged = verdict.judge(study("linear", may_differ=(variable,)), found)
    assert primary(judged).outcome == "worse"
    assert any("differ" in note for note in judged.notes)


def test_with_a_budget_of_operations_images_seen_may_differ() -> None:
    found = arms(CLEAR[:8])
    found["linear"] = {seed: replace(run, images_seen=7) for seed, run in found["linear"].items()}
    asked = study("linear", budget="flops")
    assert primary(verdict.judge(asked, found)).outcome == "worse"


# --- direction, size, interval and significance are those of one look


def test_what_an_earlier_look_rejected_does_not_decide_a_later_one() -> None:
    """Both crossed at 8 seeds, where something else kept them from a verdict, and no longer do at 12."""
    within = -0.0195 + 0.0012 * noise(8)  # of the margin, which is 0.02, but too near to it to be equivalent
    assert primary(verdict.judge(study("linear"), arms(within))).outcome == "not yet"
    one = primary(verdict.judge(study("linear"), arms([*within, 0.5, 0.1, 0.9, 0.3])))
    assert (one.look, one.outcome) == (12, "not yet")
    assert one.p is not None
    assert one.p > ALPHA
    found = arms([-0.30, -0.34, -0.28, -0.36, -0.31, -0.33, -0.29, -0.35, 0.9, -0.2, 0.8, 0.6], kid_mean=0.0)
    for seed, run in found["linear"].items():  # KID agrees from the ninth seed on
        run.scores["classifier.kid_mean"] += 0.01 if seed < 8 else -0.05
    assert primary(verdict.judge(study("linear"), found)).outcome in ("not yet", "futile")


def test_no_verdict_stands_beside_an_interval_that_contains_zero() -> None:
    """Whatever the effect, its drift from look to look, and a KID that disagrees now and then."""
    random, decided = np.random.default_rng(8), 0
    asked = study("linear")
    for _ in range(150):
        drift = np.repeat(random.normal(0, 0.1, 5), 4)
        gaps = random.normal(0, 0.2) + drift + 0.06 * random.standard_normal(20)
        found = arms(gaps, kid_mean=0.0)
        for seed, run in found["linear"].items():
            run.scores["classifier.kid_mean"] += float(0.02 * random.standard_normal() + 0.1 * gaps[seed])
        for each in verdict.judge(asked, found).findings:
            assert each.low is not None
            assert each.high is not None
            assert each.p is not None
            if each.outcome in ("better", "worse"):
                decided += 1
                assert each.low * each.high > 0
                assert each.low * each.difference > 0
                assert each.p <= ALPHA
            assert (each.p > ALPHA) == (each.low <= 0 <= each.high)
    assert decided > 50


def test_equivalence_needs_the_sign_flips_of_the_shifted_differences_too() -> None:
    """Of exponential differences whose true mean is the margin, 0.02: the t tests alone exclude it."""
    gaps = [0.0252, 0.0141, 0.01, 0.0189, 0.0172, 0.0146, 0.016, 0.0106]
    test, alone = statistics.t_test(np.array(gaps), 0.02, 0.95), Design(LOOKS, "pocock")
    assert alone.p(np.array([2 * test.equivalence_p]))[0] / 2 <= ALPHA * PRIMARY
    assert primary(verdict.judge(study("linear"), arms(gaps))).outcome == "not yet"
    assert primary(verdict.judge(study("linear"), arms([gap - 0.003 for gap in gaps]))).outcome == "equivalent"


# --- the error rate of the whole table

CORRELATION = np.array(
    [
        [1.0, 0.9, -0.37, -0.37, -0.11, -0.53],
        [0.9, 1.0, -0.3, -0.28, -0.12, -0.61],
        [-0.37, -0.3, 1.0, 0.42, -0.05, 0.12],
        [-0.37, -0.28, 0.42, 1.0, -0.12, 0.18],
        [-0.11, -0.12, -0.05, -0.12, 1.0, 0.04],
        [-0.53, -0.61, 0.12, 0.18, 0.04, 1.0],
    ]
)  # of METRICS: of their differences over seeds, pooled over four pairs of variants of digits


def tables(trials: int, variants: int = 3, seed: int = 0) -> Array:
    """Differences from one baseline if nothing differs: (trials, variants, metrics, seeds)."""
    root = np.linalg.cholesky(CORRELATION)
    drawn = np.random.default_rng(seed).standard_normal((trials, variants + 1, LOOKS[-1], len(METRICS))) @ root.T
    drawn = drawn.swapaxes(-1, -2)
    return drawn[:, 1:] - drawn[:, :1]


def adjusted(differences: Array, margin: float = 0.0) -> tuple[Array, Array]:
    """The p of "no difference" and of "a gap as large as the margin", adjusted for the table, at each look."""
    design, variants = Design(LOOKS, "pocock"), differences.shape[1]
    family = np.full(len(METRICS), variants * (len(METRICS) - 1) / (1 - PRIMARY))
    family[0] = variants / PRIMARY
    tests = [statistics.t_test(differences[..., :look], margin, 0.9) for look in LOOKS]
    two_sided, one_sided = (np.stack([getattr(test, name) for test in tests], -1) for name in ("p", "equivalence_p"))
    excluded = design.p(np.minimum(1, 2 * one_sided)) / 2
    return design.p(two_sided) * family[:, None], excluded * family[:, None]


def test_a_table_of_what_does_not_differ_is_false_as_rarely_as_it_says() -> None:
    """All looks of all metrics count, without margins, KID or sign flips, which would make errors rarer still."""
    trials = 3000
    different, _ = adjusted(tables(trials))
    assert 0.02 < (different <= ALPHA).any((1, 2, 3)).mean() <= ALPHA + 3 * math.sqrt(0.0475 / trials)


@pytest.mark.parametrize("at_margin", [1, 4, 6])
def test_so_is_one_in_which_some_differ_by_the_margin(at_margin: int) -> None:
    """Calling these equivalent is as false as calling the others better: Holm's procedure would count that twice."""
    trials, margin = 3000, 3.0
    differences = tables(trials)
    differences[:, :, :at_margin] += margin
    different, excluded = adjusted(differences, margin)
    false = (excluded[:, :, :at_margin] <= ALPHA).any((1, 2, 3)) | (different[:, :, at_margin:] <= ALPHA).any((1, 2, 3))
    assert false.mean() <= ALPHA + 3 * math.sqrt(0.0475 / trials)


def test_a_studys_p_are_those_of_these_simulations() -> None:
    differences = tables(2, variants=2, seed=4) * 0.01 + np.array([0.0, 0.02])[:, None, None]
    asked = study("linear", "sigmoid")
    for table, different in zip(differences, adjusted(differences)[0], strict=True):
        found = {"cosine": {seed: scored("cosine", seed, dict.fromkeys(METRICS, 1.0)) for seed in range(20)}}
        for name, gaps in zip(("linear", "sigmoid"), table, strict=True):
            found[name] = {
                seed: scored(name, seed, dict(zip(METRICS, (1 + gaps[:, seed]).tolist(), strict=True)))
                for seed in range(20)
            }
        judged = verdict.judge(asked, found).findings
        assert [(each.variant, each.metric) for each in judged] == [
            (name, metric) for name in ("linear", "sigmoid") for metric in METRICS
        ]
        for each, expected in zip(judged, different.reshape(-1, len(LOOKS)), strict=True):
            assert each.look
            assert each.p == pytest.approx(min(1, expected[LOOKS.index(each.look)]))


# --- tuning


def test_what_was_tuned_is_said_in_words_numbers_and_a_picture() -> None:
    fds = {"cosine": (2.0, 1.0, 1.5), "linear": (0.5, 1.1, math.nan)}
    tried = tuple(
        Tried(variant, {"train.learning_rate": rate}, (fd, fd), fd, fd == min(own[:2]), (-1.0, 2.5), fd < 2)
        for variant, own in fds.items()
        for rate, fd in zip((0.001, 0.002, 0.004), own, strict=True)
    )
    judged = verdict.judge(study("linear"), arms(CLEAR[:8]))
    assert verdict.to_dict(judged)["tuning"] == []
    whole = replace(judged, tuning=tried, notes=tuple(tuning.notes(tried, FD)))
    assert whole.notes == (
        f"linear: no {FD}, or training diverged, at train.learning_rate 0.004",
        "linear: chosen at train.learning_rate 0.001, the smallest tried: the grid may be too small",
        f"the ranking of the variants in {FD} depends on the values: best first, it is linear, cosine with the "
        "values chosen, but cosine, linear at train.learning_rate 0.002 (means of 2 tuning seeds: no verdict)",
    )
    assert verdict.headlines(whole)[-2:] == [
        "each arm at the value that 2 seeds chose from 3 for train.learning_rate: cosine 0.002; linear 0.001; the "
        "verdict uses other seeds",
        "these seeds do not exclude as an arm's best: cosine 0.004; linear 0.002",
    ]
    page = compared.verdict(
        Compared({}, whole.findings, list(verdict.titled(whole)), whole.notes, tuned=tuning.panels(tried, FD))
    )
    [table] = [part for part in page if isinstance(part, Table) and "tuning seeds" in part.caption]
    assert [*table.rows] == [
        ["cosine", "2 (-1 to +2.5)", "1*", "1.5 (-1 to +2.5)?"],
        ["linear", "0.5*", "1.1 (-1 to +2.5)?", "none"],
    ]
    assert [part.wide for part in page if isinstance(part, Figure)] == [True, False]
    assert json.loads(json.dumps(verdict.to_dict(whole), allow_nan=False))["tuning"][5]["scores"] == [None, None]


def test_variants_that_were_tuned_to_sample_differently_may_be_compared() -> None:
    asked, found = study("linear"), arms(CLEAR[:8])
    found["linear"] = {seed: replace(run, fingerprint="a" * 64) for seed, run in found["linear"].items()}
    with pytest.raises(UserError, match="fingerprints differ"):
        verdict.judge(asked, found)
    tuned = asked.settled({name: Point({"sample.steps": 5}, asked.configs[name]) for name in asked.configs})
    assert primary(verdict.judge(tuned, found)).outcome == "worse"


@pytest.mark.parametrize(
    ("gaussian", "outcome"), [(0.9, "too early"), (1.1, "worse"), (2.0, "worse"), (None, "worse"), (math.inf, "worse")]
)
def test_of_two_variants_that_a_gaussian_beats_none_is_better(gaussian: float | None, outcome: str) -> None:
    """They score 1 and 1.3. More seeds would not change that they have learned nothing: the study is over."""
    found = arms(CLEAR, precision=-0.2)
    for run in [run for runs in found.values() for run in runs.values()]:
        if gaussian is not None:
            run.scores.update({f"yardsticks.gaussian.{FD}": gaussian, "yardsticks.gaussian.classifier.count": 720})
    judged = verdict.judge(study("linear"), found)
    assert (primary(judged).outcome, primary(judged).look, judged.open) == (outcome, 8, ())
    assert (judged.findings[1].outcome == "too early") == (outcome == "too early")
    assert json.loads(json.dumps(verdict.to_dict(judged)))["findings"][0]["outcome"] == outcome
    code = too_early.exit_code(judged.findings, FD)
    assert code == (too_early.NO_ANSWER if outcome == "too early" else 0)
    assert any("no yardstick" in note for note in judged.notes) == (gaussian is None)


def test_a_run_without_a_yardstick_is_said_once() -> None:
    found = arms(CLEAR[:8])
    for run in found["cosine"].values():
        run.scores.update({f"yardsticks.gaussian.{FD}": 0.5, "yardsticks.gaussian.classifier.count": 720})
    judged = verdict.judge(study("linear"), found)
    assert primary(judged).outcome == "worse"
    (note,) = [note for note in judged.notes if "no yardstick" in note]
    assert "linear-0" in note
