"""The download and preprocess stages as DVC runs them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.small_project import lay_out


@pytest.fixture
def project(tmp_path):
    """A folder in which ``python -m stages.X`` works on its own data and params.yaml: the digits preset."""
    lay_out(tmp_path)
    return tmp_path


def run(project, stage: str, *python: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "stages", stage]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_digits_are_scikit_learns_and_need_neither_it_nor_torch(project):
    for stage, used in {"download": "numpy", "preprocess": "PIL.Image"}.items():
        result = run(project, stage, "-X", "importtime")
        assert result.returncode == 0, result.stderr[-2000:]
        imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
        assert used in imported
        assert not imported & {"torch", "torchvision", "mlflow", "sklearn"}
    with np.load(project / "data/raw/digits.npz") as raw:
        published = load_digits()
        np.testing.assert_array_equal(raw["images"], published.images)
        np.testing.assert_array_equal(raw["labels"], published.target)
    assert result.stdout.startswith("digits: 1,")
    manifest = json.loads((project / "data/processed/manifest.json").read_text())
    assert sum(manifest["counts"].values()) == 1797


@pytest.mark.parametrize("stage", ["nosuch", ""])
def test_a_stage_that_is_not_there_is_one_line(project, stage):
    result = run(project, stage)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert "preprocess" in line
    assert not (project / "data" / "raw").exists()
