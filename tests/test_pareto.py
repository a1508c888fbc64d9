"""Quality against cost is read from records: the runs of one training, sampled in different ways."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm.base.errors import UserError
from ddpm.report import pareto
from ddpm.runs import library
from tests.scored import record, result, working

COSTS = st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=20)


@given(COSTS)
def test_the_front_is_what_is_best_at_some_budget(costs):
    on_it = pareto.pareto(costs)
    for budget in range(1, 9):
        within = [i for i, (cost, _) in enumerate(costs) if cost <= budget]
        if within:
            best = min(costs[i][1] for i in within)
            cheapest = min(cost for cost, score in costs if score == best)
            assert any(on_it[i] and costs[i] == (cheapest, best) for i in within)
    steps = sorted({pair for pair, on in zip(costs, on_it, strict=True) if on})
    assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(steps))


CLASSES = {"model__classes": 10}
HEUN = {"sample__sampler": {"name": "heun"}, "sample__steps": 10}


@pytest.fixture(autouse=True)
def _in_a_project(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_runs_of_one_training_have_a_line_for_each_sampler_and_weight():
    first = result(fd=4.0, evaluations=5, params=CLASSES)
    name = first.params["sample.sampler.name"]
    record(Path(), [
        first,
        result(fd=2.0, name="a", evaluations=10, params=CLASSES | {"sample__steps": 10}),
        result(fd=4.5, name="b", evaluations=9, params=CLASSES | HEUN | {"sample__steps": 5}),
        result(fd=1.5, name="c", evaluations=19, params=CLASSES | HEUN),
        result(fd=1.75, name="d", evaluations=20, params=CLASSES | {"sample__guidance": {"weight": 2.0}}),
        # other trainings, and other numbers of images
        result(fd=0.1, name="e", evaluations=5, seed=1, params=CLASSES),
        result(fd=0.1, name="f", evaluations=5, params=CLASSES | {"train__steps": 99}),
        result(fd=0.1, name="g", evaluations=5, params=CLASSES | {"sample__count": 13}),
    ])  # fmt: skip
    figure, table = pareto.shown(working(**CLASSES), first, library.everywhere().records)
    (panel,) = figure.drawing
    assert panel.curves.keys() == {name, "heun", f"{name}, w = 2"}
    np.testing.assert_array_equal(panel.curves[name], [[5, 4], [10, 2]])
    np.testing.assert_array_equal(panel.front, [[5, 4], [10, 2], [19, 1.5]])
    assert [row[:3] for row in table.rows] == [["5", "4.000", name], ["10", "2.000", name], ["19", "1.500", "heun"]]


def test_one_way_of_sampling_is_no_front():
    record(Path(), [result()])
    with pytest.raises(UserError, match="dvc exp run -S "):
        pareto.shown(working(), result(), library.everywhere().records)
