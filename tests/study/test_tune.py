"""Tuning in a study: what its plan may say, what runs first and what is chosen."""

import math

import numpy as np
import pytest

from ddpm.base.errors import UserError
from ddpm.params import config
from ddpm.report import judgement as shown
from ddpm.study import judging, loading
from ddpm.study.ledger import open_ledger
from ddpm.verdicts import tuning
from tests import study_project
from tests.study_project import NAMES, PLAN, commit, study

RATE = "train.learning_rate"
STUDY = study_project.STUDY + "tune: {train.learning_rate: [0.001, 0.01], seeds: 2}\n"
TUNING = [f"{arm}-tune-{place}-{number}" for number in (1, 2) for place in (1, 2) for arm in ("cosine", "linear")]
MEANS = {("cosine", 0.001): 1.0, ("cosine", 0.01): 1.5, ("linear", 0.001): 1.2, ("linear", 0.01): 0.5}


@pytest.fixture(autouse=True)
def _plan(lab) -> None:
    PLAN.write_text(STUDY)
    commit("two values")
    lab.means = dict(MEANS)


def tuned(experiment) -> config.Config:
    """The params that it runs with."""
    return config.parse(experiment.params)


def finish() -> tuple:
    """Run the whole study."""
    ledger = open_ledger(loading.load(PLAN))
    judgement, failed = judging.run(ledger, 1, lambda _: None)
    assert not failed
    return judgement, ledger


def test_runs_for_tuning_come_first_each_at_a_point_of_the_grid_and_draw_seeds_of_their_own():
    study = loading.load(PLAN)
    assert [experiment.name for experiment in study.lines()] == [*TUNING, *NAMES]
    one = tuned(study.experiments(kind="tuning")[3])
    assert (one.train.learning_rate, one.diffusion.schedule.name) == (0.01, "linear")
    verdict = {seed for each in study.experiments() for seed in (each.seed, *each.recipe.config.sample.seeds)}
    of_tuning = [tuned(each) for each in study.experiments(kind="tuning")]
    assert not verdict & {seed for each in of_tuning for seed in (each.seed, *each.sample.seeds)}
    assert len({each.sample.seeds for each in of_tuning}) == 2  # all of one seed draw the same noise


RATES = "train.learning_rate: [0.001, 0.01]"


@pytest.mark.parametrize(
    ("tune", "line"),
    [
        (f"{{{RATES}, seeds: 1}}", "tune.seeds: 1 is not allowed"),
        ("{seeds: 4}", "tune: "),
        ("{train.batch_size: [4], seeds: 4}", "train.batch_size: [4] "),
        ("{train.learning_rate: [1, 5], seeds: 4}", "arms.cosine, with train.learning_rate 5: train.learning_rate"),
        ("{sample.seeds: [[1], [2]], seeds: 4}", "tune: sample.seeds: "),
        ("{evaluate.kid_subsets: [1, 2], seeds: 4}", "tune: evaluate.kid_subsets: "),
    ],
)
def test_what_is_refused(tune, line):
    PLAN.write_text(f"{study_project.STUDY}tune: {tune}\n")
    with pytest.raises(UserError) as refused:
        loading.load(PLAN)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_study_tunes_then_takes_each_arm_at_the_value_chosen(lab, capsys):
    assert study("run", str(PLAN), "--line", "9") == 2
    assert "cosine-0: " in capsys.readouterr().err
    judgement, ledger = finish()
    assert lab.ran == [*TUNING, *NAMES]
    rates = {each.name: tuned(each).train.learning_rate for each in ledger.study.experiments()}
    assert rates == {"cosine-0": 0.001, "cosine-1": 0.001, "linear-0": 0.01, "linear-1": 0.01}
    assert [(row.arm, row.values[RATE], row.chosen) for row in judgement.tuning] == [
        ("cosine", 0.001, True), ("cosine", 0.01, False), ("linear", 0.001, False), ("linear", 0.01, True),
    ]  # fmt: skip
    assert [arm.values[RATE] for arm in judgement.arms] == [0.001, 0.01]
    notes = shown.notes(judgement)
    assert any(note.startswith("linear: ") and "train.learning_rate 0.01" in note for note in notes)
    assert study("run", str(PLAN), "--line", "9") == 0
    assert len(lab.ran) == 12  # nothing is run again


def test_a_value_that_diverges_is_a_result_and_is_not_chosen(lab):
    lab.means["linear", 0.01] = math.nan
    judgement, ledger = finish()
    assert set(ledger.records) == {*TUNING, *NAMES}
    assert len(lab.ran) == 12  # what diverged is not run again
    assert ledger.study.chosen["linear"].values == {RATE: 0.001}
    assert any("diverged" in note and "train.learning_rate 0.01" in note for note in shown.notes(judgement))


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first():
    scores = np.array([[[3.0, 1.0], [1.0, 1.5], [2.0, 2.0]], [[2.0, 2.0], [1.0, 3.0], [math.nan, 0.0]]])
    place, low, high = tuning.best(scores, 0.05, arms=2)
    assert place.tolist() == [1, 0]
    assert np.isnan([low[1, 2], high[1, 2]]).all()
    assert tuning.best(-scores, 0.05, arms=2)[0].tolist() == [0, 0]
