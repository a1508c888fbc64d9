"""Tuning in a study: what its plan may say, what runs first and what is chosen."""

import math
from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from ddpm.arms import maker
from ddpm.arms.pool import Done, Pool, Task
from ddpm.base.errors import UserError
from ddpm.params import config
from ddpm.report import judgement as shown
from ddpm.runs import library, rows
from ddpm.runs.record import NumberTable, Record
from ddpm.study import judging, loading
from ddpm.study.ledger import open_ledger
from ddpm.verdicts import tuning
from tests import study_project
from tests.scored import git, params, result

FD, RATE = "classifier.fd", "train.learning_rate"
PLAN = Path("studies/tiny.yaml")
STUDY = study_project.STUDY + "tune: {train.learning_rate: [0.001, 0.01], seeds: 2}\n"
TUNING = [f"{arm}-tune-{place}-{number}" for number in (1, 2) for place in (1, 2) for arm in ("cosine", "linear")]
VERDICT = [f"{arm}-{seed}" for seed in range(2) for arm in ("cosine", "linear")]
# mean of classifier.fd by schedule and learning rate; nan: training diverges
MEANS = {("cosine", 0.001): 1.0, ("cosine", 0.01): 1.5, ("linear", 0.001): 1.2, ("linear", 0.01): 0.5}


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params(compare={"confidence": 0.5}, sample__count=1000)))
    stages = {"train": {"cmd": "true", "params": ["seed", "diffusion", "train"]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    PLAN.parent.mkdir()
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "a project")


def load(text: str = STUDY):
    PLAN.write_text(text)
    return loading.load(PLAN)


def tuned(experiment) -> config.Config:
    """The params that it runs with."""
    return config.parse(experiment.params)


class Lab(Pool):
    """Trains nothing; stands in for the pool of processes. ran: names, in order. means: of the score. failing: names of
    experiments that fail."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.means = dict(MEANS)
        self.failing: set[str] = set()
        self.tasks: deque[Task] = deque()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.tasks.clear()

    def submit(self, task: Task, again: bool = False) -> None:
        self.tasks.append(task)

    def results(self, until: float | None = None):
        while self.tasks:
            yield self.start(self.tasks.popleft())

    def start(self, task: Task) -> Done:
        chosen = config.parse(dict(task.params))
        mean = self.means[chosen.diffusion.schedule.name, chosen.train.learning_rate]
        self.ran.append(task.name)
        if task.name in self.failing:
            return Done(task, reason="out of luck")
        if math.isnan(mean):
            run = result(seed=chosen.seed, scores={}, diverged="train: the loss is not finite", comparable={})
            return self.keep(run.model_copy(update={"params": library.relevant(chosen.flat())}), task)
        noise = 0.1 * math.sin(1000 * chosen.train.learning_rate * chosen.seed)
        run = result(seed=chosen.seed, fd=mean + noise, code={})
        table = NumberTable(columns={"images": (48.0, 96.0), FD: (2 * mean, mean + noise)})
        run = run.model_copy(update={"params": library.relevant(chosen.flat()), "curve": table})
        return self.keep(run, task)

    def keep(self, run: Record, task: Task) -> Done:
        rows.append(task.rows, run.model_dump(mode="json") | task.about)
        return Done(task)

    def finish(self, text: str = STUDY) -> tuple:
        """Run the whole study."""
        ledger = open_ledger(load(text))
        judgement, failed = judging.run(ledger, 1, lambda _: None)
        return judgement, ledger, failed

    def line(self, number: int, text: str = STUDY) -> None:
        """Run one experiment, as a job of an array does."""
        ledger = open_ledger(load(text))
        for reason in judging.complete(ledger, [ledger.study.lines()[number - 1]], 1, lambda _: None).values():
            raise UserError(reason)


@pytest.fixture
def lab(monkeypatch) -> Lab:
    lab = Lab()
    monkeypatch.setattr(maker, "Pool", lambda *_: lab)
    return lab


def test_runs_for_tuning_come_first_each_at_a_point_of_the_grid_and_draw_seeds_of_their_own():
    study = load()
    assert [experiment.name for experiment in study.lines()] == [*TUNING, *VERDICT]
    one = tuned(study.experiments(kind="tuning")[3])
    assert (one.train.learning_rate, one.diffusion.schedule.name) == (0.01, "linear")
    verdict = {seed for each in study.experiments() for seed in (each.seed, *each.recipe.config.sample.seeds)}
    of_tuning = [tuned(each) for each in study.experiments(kind="tuning")]
    assert not verdict & {seed for each in of_tuning for seed in (each.seed, *each.sample.seeds)}
    assert len({each.sample.seeds for each in of_tuning}) == 2  # all of one seed draw the same noise


def test_runs_for_tuning_score_the_end_alone_since_that_is_what_chooses(lab):
    constant = "train.lr_decay: constant, train.snapshots: [8]"
    text = STUDY.replace("cosine}", f"cosine, {constant}}}").replace("linear}", f"linear, {constant}}}")
    study = load(text)
    assert {each.recipe.config.train.snapshots for each in study.experiments()} == {(8,)}
    assert {tuned(each).train.snapshots for each in study.experiments(kind="tuning")} == {()}
    _, ledger, _ = lab.finish(text)
    assert ledger.refused == {}
    assert ledger.study.chosen.keys() == {"cosine", "linear"}


def test_of_a_run_for_tuning_the_scores_are_kept_and_not_the_curve(lab):
    _, ledger, _ = lab.finish()
    assert {name for name, run in ledger.records.items() if run.curve} == set(VERDICT)
    assert all(FD in run.scores for run in ledger.records.values())


def test_tuning_is_part_of_what_decides():
    plain = load(STUDY[: STUDY.index("tune")])
    assert load().hash != plain.hash
    assert load(STUDY.replace("0.01]", "0.02]")).hash != load().hash
    assert replace(load(), chosen={"cosine": load().grid["cosine"][1]}).hash == load().hash


RATES = "train.learning_rate: [0.001, 0.01]"


@pytest.mark.parametrize(
    ("tune", "line"),
    [
        (f"{{{RATES}, seeds: 1}}", "tune.seeds: 1 is not allowed"),
        (f"{{{RATES}, seeds: [9, 1]}}", "tune.seeds: (9, 1) is not allowed"),
        ("{seeds: 4}", "tune: "),
        ("{train.batch_size: [4], seeds: 4}", "train.batch_size: [4] "),
        ("{train.learning_rate: [1, 5], seeds: 4}", "arms.cosine, with train.learning_rate 5: train.learning_rate"),
        ("{train.learning_rat: [1, 5], seeds: 4}", "train.learning_rat: unknown key (did you mean 'learning_rate'?)"),
        ("{train.steps.x: [1, 2], seeds: 4}", "train.steps.x: "),
        ("{sample.seeds: [[1], [2]], seeds: 4}", "tune: sample.seeds: "),
        ("{evaluate.kid_subsets: [1, 2], seeds: 4}", "tune: evaluate.kid_subsets: "),
        ("{diffusion.schedule.name: [a, b], seeds: 4}", "arms.cosine: diffusion.schedule.name: "),
        ("[1]", "tune: (1,) is not allowed"),
    ],
)
def test_what_is_refused(tune, line):
    with pytest.raises(UserError) as refused:
        load(STUDY[: STUDY.index("tune")] + f"tune: {tune}\n")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_study_tunes_then_takes_each_arm_at_the_value_chosen(lab):
    with pytest.raises(UserError, match="cosine-0: "):
        lab.line(9)
    judgement, ledger, failed = lab.finish()
    assert lab.ran == [*TUNING, *VERDICT]
    assert failed == {}
    rates = {each.name: tuned(each).train.learning_rate for each in ledger.study.experiments()}
    assert rates == {"cosine-0": 0.001, "cosine-1": 0.001, "linear-0": 0.01, "linear-1": 0.01}
    assert [(row.arm, row.values[RATE], row.chosen) for row in judgement.tuning] == [
        ("cosine", 0.001, True), ("cosine", 0.01, False), ("linear", 0.001, False), ("linear", 0.01, True),
    ]  # fmt: skip
    assert [arm.values[RATE] for arm in judgement.arms] == [0.001, 0.01]
    notes = shown.notes(judgement)
    assert any(note.startswith("linear: ") and "train.learning_rate 0.01" in note for note in notes)
    lab.finish()
    lab.line(9)
    assert len(lab.ran) == 12  # nothing is run again


def test_the_verdict_so_far_of_a_study_that_is_still_tuning_has_the_arms_that_are_done(lab):
    for number in (1, 3, 5, 7):  # of cosine
        lab.line(number)
    judgement = judging.judge(open_ledger(load()))
    assert {row.arm for row in judgement.tuning} == {"cosine"}
    assert (judgement.verdicts, judgement.open) == ((), ("cosine", "linear"))


def test_a_value_that_diverges_is_a_result_and_is_not_chosen(lab):
    lab.means["linear", 0.01] = math.nan
    judgement, ledger, failed = lab.finish()
    assert set(ledger.records) == {*TUNING, *VERDICT}
    assert (failed, len(lab.ran)) == ({}, 12)  # what diverged is not run again
    assert ledger.study.chosen["linear"].values == {RATE: 0.001}
    assert any("diverged" in note and "train.learning_rate 0.01" in note for note in shown.notes(judgement))


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first():
    scores = np.array([[[3.0, 1.0], [1.0, 1.5], [2.0, 2.0]], [[2.0, 2.0], [1.0, 3.0], [math.nan, 0.0]]])
    place, low, high = tuning.best(scores, 0.05, arms=2)
    assert place.tolist() == [1, 0]
    assert np.isnan([low[1, 2], high[1, 2]]).all()
    assert tuning.best(-scores, 0.05, arms=2)[0].tolist() == [0, 0]


def test_several_keys_make_a_grid_in_the_plans_order():
    study = load(STUDY.replace("0.01]", "0.01], sample.clip_denoised: [true, false]"))
    assert [list(point.values.values()) for point in study.grid["linear"]] == [
        [0.001, True], [0.001, False], [0.01, True], [0.01, False],
    ]  # fmt: skip
    assert study.plan.tune
    scores = {arm: np.array([[4.0, 4], [6, 6], [3, 5], [9, 9]]) for arm in study.grid}
    rows = tuning.tries(study.plan.tune.grid, scores, "lower", 0.5, 2)
    assert [row.values for row in rows if row.chosen] == [{RATE: 0.001, "sample.clip_denoised": True}] * 2
    assert [row.behind for row in rows[:2]] == [(0, 0), (2, 2)]
    assert [row.possible for row in rows[:4]] == [True, False, True, False]
