"""The test of whose images are nearer to the real ones: its numbers, its errors, and what it says in words."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity import KEY_METRIC_KID_MEAN
from torch_fidelity.metric_kid import kid_features_to_metric

from ddpm.base.errors import UserError
from ddpm.base.files import read_json
from ddpm.compare import revisions, two_models
from ddpm.compare.two_models import Relative, relative_mmd
from ddpm.scoring.settings import Evaluate
from tests.scored import result

CPU = torch.device("cpu")


def normal(count: int, seed: int, shift: float = 0.0, features: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, features, generator=generator) + shift


def test_the_difference_is_that_of_two_unbiased_mmd() -> None:
    real, first, second = normal(70, 0), normal(50, 1, 0.3), normal(90, 2, 0.6)

    def mmd(samples: Tensor) -> float:
        x, y = samples.double().numpy(), real.double().numpy()
        kernel = [(a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
        own, other = ((each.sum() - np.trace(each)) / len(each) / (len(each) - 1) for each in kernel[:2])
        return float(own + other - 2 * kernel[2].mean())

    found = relative_mmd(real, first, second)
    assert found.difference == pytest.approx(mmd(second) - mmd(first), rel=1e-12)
    assert found.p < 0.05
    back = relative_mmd(real, second, first)
    assert (back.difference, back.error, back.p) == pytest.approx((-found.difference, found.error, found.p))


def test_it_agrees_with_torch_fidelitys_kernel_distance() -> None:
    real, first, second = normal(60, 0), normal(60, 1, 0.2), normal(60, 2, 0.5)
    options = {"kid_subsets": 1, "kid_subset_size": 60, "verbose": False}
    kids = [kid_features_to_metric(samples, real, **options)[KEY_METRIC_KID_MEAN] for samples in (first, second)]
    assert relative_mmd(real, first, second).difference == pytest.approx(kids[1] - kids[0], rel=1e-5)


def test_no_block_size_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = normal(40, 0), normal(33, 1, 0.3), normal(20, 2)
    whole = relative_mmd(*sets)
    monkeypatch.setattr(two_models, "ROWS", 7)
    assert relative_mmd(*sets) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("shift", [0.4, 0.8])
def test_two_models_of_equal_worth_are_told_apart_as_rarely_as_p_says(shift: float) -> None:
    """Both are off by as much: with all signs turned, real images and kernel stay the same, and one model becomes the
    other."""
    draws = [
        relative_mmd(normal(100, 3 * k), normal(80, 3 * k + 1, shift), normal(120, 3 * k + 2, -shift))
        for k in range(600)
    ]
    p = np.array([found.p for found in draws])
    z = np.array([found.difference / found.error for found in draws])
    assert 0.02 < np.mean(p < 0.05) < 0.085
    assert np.std(z) == pytest.approx(1, abs=0.12)


def test_the_nearer_model_is_found() -> None:
    found = [
        relative_mmd(normal(100, 3 * k), normal(100, 3 * k + 1, 0.1), normal(100, 3 * k + 2, 0.6)) for k in range(20)
    ]
    assert all(each.difference > 0 for each in found)
    assert np.mean([each.p < 0.05 for each in found]) > 0.9


def test_models_that_draw_the_same_images_are_not_told_apart() -> None:
    same = normal(30, 1, 0.5)
    assert relative_mmd(normal(40, 0), same, same).difference == pytest.approx(0, abs=1e-12)
    still = torch.zeros(10, 4)
    assert relative_mmd(still, still, still) == Relative(0.0, 0.0, 1.0)


def test_in_words() -> None:
    said = two_models.said("a", "b", "classifier", Relative(0.5, 0.1, 1e-6))
    assert said == (
        "in classifier's features, a's images are nearer to the real ones than b's: KID 0.5 lower, standard error 0.1, "
        "p 1e-06"
    )
    said = two_models.said("a", "b", "classifier", Relative(-0.02, 0.1, 0.84))
    assert said == (
        "in classifier's features, neither model's images are nearer to the real ones: b's have KID 0.02 lower, "
        "standard error 0.1, p 0.84"
    )


@pytest.fixture
def kept(
    classifier_reference: Path, held_out: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """Two runs' files: the first drew real images, the second their negatives."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/reference").symlink_to(classifier_reference)
    index = read_json(Path("data/reference/reference.json"))
    scored = json.dumps({"comparable": {"images": {"sha256": index["images"]}}}).encode()
    files = {f"{name} metrics/fingerprint.json": scored for name in ("good", "bad")}
    for name, images in (("good", held_out), ("bad", 255 - held_out)):
        file = io.BytesIO()
        np.save(file, images)
        files[f"{name} data/samples/samples.npy"] = file.getvalue()

    def read(self: revisions.Revision, path: str) -> io.BytesIO:
        if (name := f"{self.name} {path}") not in files:
            raise UserError(f"{self.name}: {path} is not kept here; `dvc pull` it, or run the experiment again")
        return io.BytesIO(files[name])

    monkeypatch.setattr(revisions.Revision, "read", read)
    return files


def lines() -> list[str]:
    good, bad = (replace(result("cosine", 0), name=name) for name in ("good", "bad"))
    return two_models.lines(bad, good, Evaluate(extractors=("classifier",)), CPU)


def test_real_images_are_nearer_than_their_negatives(kept: dict[str, bytes]) -> None:
    first, second = lines()
    assert first.startswith("in classifier's features, good's images are nearer to the real ones than bad's: KID ")
    assert second == "this is about these two models and never about two recipes, because one seed proves nothing"


def test_what_cannot_be_compared_is_said_in_one_line(kept: dict[str, bytes]) -> None:
    kept["bad metrics/fingerprint.json"] = b'{"comparable": {"images": {"sha256": "0"}}}'
    (line,) = lines()
    assert line.startswith("these two models' images are not compared: bad was scored by other real images than data/")
    kept["bad metrics/fingerprint.json"] = b"{}"
    (line,) = lines()
    assert "bad was scored by other real images" in line
    del kept["bad data/samples/samples.npy"]
    (line,) = lines()
    assert "bad: data/samples/samples.npy is not kept here; `dvc pull` it" in line
