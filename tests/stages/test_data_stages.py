"""The download and preprocess stages as DVC runs them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.small_project import lay_out, set_params


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder in which ``python -m stages.X`` works on its own data and params.yaml: the digits preset."""
    lay_out(tmp_path)
    return tmp_path


def run(project: Path, stage: str, *python: str) -> subprocess.CompletedProcess[str]:
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": {"name": "image_folder"}, "source": "nowhere"}, "no such file or folder 'nowhere'"),
        ({"dataset": {"name": "image_folder"}, "source": "empty"}, "no images in"),
        ({"dataset": {"name": "image_folder"}, "source": "cut.tar.gz"}, "truncated or broken archive"),
        ({"source": "somewhere"}, "digits come with scikit-learn"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(project, values, message):
    (project / "empty").mkdir()
    (project / "cut.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    set_params(project, data=values)
    result = run(project, "download")
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("stage", ["nosuch", ""])
def test_a_stage_that_is_not_there_is_one_line(project, stage):
    result = run(project, stage)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert "preprocess" in line
    assert not (project / "data" / "raw").exists()


@pytest.mark.slow
def test_too_few_pictures_for_a_score_are_refused_before_the_training(project):
    for label in "ab":
        (project / "mine" / label).mkdir(parents=True)
        for shade in range(20):
            Image.new("L", (16, 16), 6 * shade).save(project / f"mine/{label}/{shade}.png")
    set_params(project, data={"dataset": {"name": "image_folder"}, "source": "mine"})
    for stage in ("download", "preprocess"):
        assert run(project, stage).returncode == 0

    result = run(project, "reference")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "the train split: 32 images are too few for evaluate.metrics 'fid' with classifier" in result.stderr
    assert not (project / "data/reference").exists()

    set_params(project, evaluate={"metrics": ["isc", "kid"], "kid_subset_size": 33})
    assert "'kid' with classifier: at least 33 are needed (evaluate.kid_subset_size" in run(project, "reference").stderr
