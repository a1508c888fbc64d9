"""A pool whose runs take no time, for what a study asks for, decides and prints."""

import math
from collections import Counter
from pathlib import Path

import pytest

from ddpm.arms import maker
from ddpm.arms.pool import Done, Pool, Task
from ddpm.base import files
from ddpm.params import config, inputs
from ddpm.runs import library, rows
from ddpm.runs.record import Costs, NumberTable
from tests.scored import result

FD = "classifier.fd"


class Lab(Pool):
    """Trains nothing; stands in for the pool of processes. ran: names, in order. means: of the score, by schedule and
    learning rate; nan: training diverges. failing: how many times which experiments fail. gaussian: its score."""

    def __init__(self) -> None:
        self.ran, self.failing, self.tasks = list[str](), Counter[str](), dict[str, Task]()
        self.means, self.gaussian = dict[tuple[str, float], float](), 9.0

    def open(self, code: Path, *_: object) -> Pool:
        self.code = code
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.tasks.clear()

    def submit(self, task: Task) -> None:
        self.tasks[task.name] = task

    def results(self, until: float | None = None):
        while self.tasks:
            yield self.make(self.tasks.pop(next(iter(self.tasks))))

    def make(self, task: Task) -> Done:
        if task.rows and rows.has(task.rows, task.about["name"]):
            return Done(task)
        self.ran.append(task.name)
        if self.failing[task.name]:
            self.failing[task.name] -= 1
            return Done(task, reason="out of luck")
        chosen = config.parse(dict(task.params))
        arm, rate, seed = chosen.diffusion.schedule.name, chosen.train.learning_rate, chosen.seed
        score = 2 + 0.1 * seed + (arm == "linear") * (-1) ** seed - (arm == "sigmoid")
        if self.means:
            score = self.means[arm, rate] + 0.1 * math.sin(1000 * rate * seed)
        if math.isnan(score):
            facts = {"scores": {}, "diverged": "train: the loss is not finite"}
        else:
            facts = {"scores": {FD: score, f"yardsticks.gaussian.{FD}": self.gaussian}}
            facts["curve"] = NumberTable(columns={"images": (48.0, 96.0), FD: (2 * score, score)})
        code = inputs.list_code(dict(task.params), dvc_yaml=self.code / inputs.DVC_YAML)
        facts["code"] = {dep: files.md5(self.code / dep)[:12] for dep in code}
        costs = Costs(images_seen=1, parameters=1, evaluations=1, seconds={"train": 60.0})
        run = result(arm, seed, costs=costs, **facts)
        run = run.model_copy(update={"params": library.relevant(chosen.flat())})
        if task.rows is None:
            return Done(task, run)
        rows.append(task.rows, run.model_dump(mode="json") | task.about)
        return Done(task)


@pytest.fixture
def lab(project, monkeypatch) -> Lab:
    """Runs the experiments of the project's studies."""
    lab = Lab()
    monkeypatch.setattr(maker, "Pool", lab.open)
    return lab
