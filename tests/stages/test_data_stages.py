"""The download and preprocess stages as DVC runs them."""

import json
from pathlib import Path

import numpy as np
import pytest

from stages import __main__ as runner
from tests.command import imported
from tests.small_project import lay_out


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    """A folder in which ``python -m stages X`` works on its own data and params.yaml: the digits preset."""
    lay_out(folder)


def test_digits_are_scikit_learns_and_need_neither_it_nor_torch():
    for stage, used in {"download": "numpy", "preprocess": "PIL.Image"}.items():
        found = imported("-m", "stages", stage)
        assert used in found
        assert not found & {"torch", "torchvision", "mlflow", "sklearn"}
    from sklearn.datasets import load_digits  # 0.7 s

    with np.load("data/raw/digits.npz") as raw:
        published = load_digits()
        np.testing.assert_array_equal(raw["images"], published.images)
        np.testing.assert_array_equal(raw["labels"], published.target)
    assert sum(json.loads(Path("data/processed/manifest.json").read_text())["counts"].values()) == 1797


@pytest.mark.parametrize("stage", ["nosuch", ""])
def test_a_stage_that_is_not_there_is_one_line(stage, capsys):
    with pytest.raises(SystemExit) as ended:
        runner.run(stage)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "preprocess" in line
