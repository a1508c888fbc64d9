"""Tuning in a study: what its plan may say, what runs first and what is chosen."""

import math
from collections import deque
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
