from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch_fidelity
from numpy.typing import NDArray
from torch_fidelity.defaults import DEFAULTS

from ddpm import evaluation, reference
from ddpm.config import Evaluate
from ddpm.errors import UserError
from ddpm.processed import open_split
from ddpm.reference import RealFeatures

CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=20, kid_subset_size=150)
SAMPLING = {"sampler": {"name": "ddim"}, "steps": 50}


@pytest.fixture(scope="module")
def folder(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "reference"
    reference.make_reference(SETTINGS, digits, folder, CPU)
    return folder


@pytest.fixture(scope="module")
def real(folder: Path) -> RealFeatures:
    return reference.load_features(folder, "classifier")


@pytest.fixture(scope="module")
def held_out(digits: Path) -> NDArray[np.uint8]:
    return np.array(open_split(digits, "test")[0])


def noisy(images: NDArray[np.uint8], sd: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, sd, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def score(images: NDArray[np.uint8], real: RealFeatures, *metrics: str) -> dict[str, float]:
    return evaluation.score(images, real, SETTINGS.model_copy(update={"metrics": metrics}), CPU)


class Images(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, images: NDArray[np.uint8]):
        self.images = torch.from_numpy(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


def test_scores_are_those_of_torch_fidelity_end_to_end(
    digits: Path, real: RealFeatures, held_out: NDArray[np.uint8]
) -> None:
    """Its one public call, with the network registered as an extractor, on images rather than stored features."""

    class Registered(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any):
            super().__init__(name, features_list)
            self.network = real.network

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(getattr(self.network(images), layer) for layer in self.features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return "features", "logits"

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "logits" if metric == "isc" else "features"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

    torch_fidelity.register_feature_extractor("digits-classifier", Registered)
    settings = {
        "feature_extractor": "digits-classifier",
        "kid_subsets": SETTINGS.kid_subsets,
        "kid_subset_size": SETTINGS.kid_subset_size,
        "prc_neighborhood": SETTINGS.prc_neighborhood,
        "isc": True,
        "fid": True,
        "kid": True,
        "prc": True,
        "cuda": False,
        "save_cpu_ram": True,
        "cache": False,
        "verbose": False,
    }
    assert settings.keys() <= DEFAULTS.keys()  # it ignores what it does not know
    train = np.array(open_split(digits, "train")[0])
    expected = torch_fidelity.calculate_metrics(input1=Images(held_out), input2=Images(train), **settings)

    found = score(held_out, real, *evaluation.METRICS)

    names = {
        "fd": "frechet_inception_distance",
        "is_mean": "inception_score_mean",
        "is_std": "inception_score_std",
        "kid_mean": "kernel_inception_distance_mean",
        "kid_std": "kernel_inception_distance_std",
        "precision": "precision",
        "recall": "recall",
    }
    assert found.keys() == names.keys()
    for key, name in names.items():
        assert found[key] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), key


def test_every_metric_that_the_config_allows_is_there() -> None:
    annotation = Evaluate.model_fields["metrics"].annotation
    assert set(get_args(get_args(annotation)[0])) == evaluation.METRICS.keys()


def test_the_settings_that_metrics_get_are_ones_that_torch_fidelity_knows() -> None:
    assert {"kid_subsets", "kid_subset_size", "rng_seed", "prc_neighborhood", "prc_batch_size"} <= DEFAULTS.keys()
    assert DEFAULTS["isc_splits"] == evaluation.ISC_SPLITS
    assert DEFAULTS["rng_seed"] == evaluation.RNG_SEED


def test_scoring_twice_gives_the_same_numbers_and_order_matters_to_no_distance(
    real: RealFeatures, held_out: NDArray[np.uint8]
) -> None:
    first = score(held_out, real, *evaluation.METRICS)

    assert score(held_out, real, *evaluation.METRICS) == first
    turned = score(held_out[::-1], real, "fid", "prc")
    assert turned == pytest.approx({key: first[key] for key in turned}, rel=1e-3)


def test_worse_images_score_worse(digits: Path, real: RealFeatures, held_out: NDArray[np.uint8]) -> None:
    labels = open_split(digits, "test")[1]
    clean = score(held_out, real, "fid", "kid", "prc")
    scores = [score(noisy(held_out, sd), real, "fid", "kid") for sd in (30, 60, 90)]
    without_nines = score(held_out[labels != 9], real, "fid", "prc")

    distances = [clean, *scores]
    assert all(a["fd"] < b["fd"] and a["kid_mean"] < b["kid_mean"] for a, b in pairwise(distances))
    assert without_nines["fd"] > 2 * clean["fd"]
    assert without_nines["recall"] < clean["recall"] - 0.03


def test_the_real_images_themselves_are_at_distance_zero(digits: Path, real: RealFeatures) -> None:
    train = np.array(open_split(digits, "train")[0])

    found = score(train, real, "fid", "prc")

    assert found["fd"] == pytest.approx(0, abs=1e-3)
    assert found["precision"] == found["recall"] == 1


@pytest.mark.parametrize("value", [0, 255])
def test_samples_that_are_all_alike_get_finite_numbers(real: RealFeatures, value: int) -> None:
    images = np.full((200, 1, 16, 16), value, dtype=np.uint8)

    found = score(images, real, *evaluation.METRICS)

    assert np.isfinite(list(found.values())).all()
    assert found["is_mean"] == pytest.approx(1)
    assert found["fd"] > 10


def test_a_number_that_is_not_finite_is_refused(real: RealFeatures, held_out: NDArray[np.uint8]) -> None:
    class Overconfident(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> evaluation.Features:
            found = real.network(images)
            return evaluation.Features(found.features, found.logits * 1e6)

    extreme = RealFeatures(real.extractor, Overconfident(), real.features, real.mu, real.sigma)

    with pytest.raises(UserError, match=r"classifier\.is_mean, classifier\.is_std is not a finite number"):
        score(held_out, extreme, "isc")


@pytest.mark.parametrize(
    ("metric", "count", "least"), [("fid", 64, 65), ("isc", 99, 100), ("kid", 149, 150), ("prc", 39, 40)]
)
def test_too_few_images_are_refused_with_the_minimum_and_enough_are_scored(
    metric: str, count: int, least: int, folder: Path, tmp_path: Path, held_out: NDArray[np.uint8]
) -> None:
    settings = SETTINGS.model_copy(update={"metrics": (metric,)})
    np.save(tmp_path / "few.npy", held_out[:count])
    np.save(tmp_path / "enough.npy", held_out[:least])

    with pytest.raises(UserError, match=rf"sample\.count: {count} images .* '{metric}' .* at least {least} "):
        evaluation.evaluate(tmp_path / "few.npy", folder, settings, SAMPLING, CPU)
    scores, _ = evaluation.evaluate(tmp_path / "enough.npy", folder, settings, SAMPLING, CPU)
    assert np.isfinite(list(scores["classifier"].values())).all()


def test_a_reference_that_is_too_small_is_refused_except_for_the_inception_score(real: RealFeatures) -> None:
    with pytest.raises(UserError, match=r"the train split: 30 images are too few .* 'fid'"):
        evaluation.check_counts(SETTINGS, real.extractor, {"sample.count": 1000, "the train split": 30})
    alone = SETTINGS.model_copy(update={"metrics": ("isc",)})
    evaluation.check_counts(alone, real.extractor, {"sample.count": 1000, "the train split": 30})


@pytest.mark.parametrize("shape", [(200, 3, 16, 16), (200, 1, 32, 32), (200, 1, 16, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", np.zeros(shape, dtype=np.uint8))

    with pytest.raises(UserError, match=r"can't be scored against digits's \(1, 16, 16\)"):
        evaluation.evaluate(tmp_path / "samples.npy", folder, SETTINGS, SAMPLING, CPU)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((9, 1, 16, 16), dtype=np.float32),
        np.zeros((9, 16, 16), dtype=np.uint8),
        np.zeros((0, 1, 16, 16), dtype=np.uint8),
        np.array([{"a": "pickle"}], dtype=object),
    ],
    ids=["float", "three axes", "none", "pickle"],
)
def test_what_is_no_set_of_images_is_refused(array: NDArray[Any], tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", array, allow_pickle=True)

    with pytest.raises(UserError, match=r"samples\.npy: "):
        evaluation.read_samples(tmp_path / "samples.npy")


@pytest.mark.parametrize("content", [None, b"", b"not an array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_samples_file_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "samples.npy").write_bytes(content)

    with pytest.raises(UserError, match=r"samples\.npy: "):
        evaluation.read_samples(tmp_path / "samples.npy")


def test_an_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", images=np.zeros((9, 1, 16, 16), dtype=np.uint8))

    with pytest.raises(UserError, match=r"this is an archive"):
        evaluation.read_samples(tmp_path / "samples.npz")


def fingerprint(folder: Path, settings: Evaluate = SETTINGS, count: int = 200, steps: int = 50) -> str:
    index = reference.read_reference(folder)
    found = evaluation.fingerprint(index, settings, count, {**SAMPLING, "steps": steps}, CPU)
    hashed: str = found["hash"]
    return hashed


def test_the_fingerprint_tells_what_is_comparable(folder: Path, digits: Path, tmp_path: Path) -> None:
    own = fingerprint(folder)

    assert fingerprint(folder, count=201) != own
    assert fingerprint(folder, steps=51) != own
    for change in ({"kid_subset_size": 151}, {"prc_neighborhood": 4}, {"metrics": ("fid",)}):
        assert fingerprint(folder, SETTINGS.model_copy(update=change)) != own
    for key, value in (("images", "0" * 64), ("extractors", {"classifier": {reference.WEIGHTS: "0" * 64}})):
        index = json.loads((folder / "reference.json").read_text())
        (tmp_path / "reference.json").write_text(json.dumps({**index, key: value}))
        assert fingerprint(tmp_path) != own


def test_the_fingerprint_is_the_same_on_every_machine(folder: Path) -> None:
    own = fingerprint(folder)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert fingerprint(folder) == own
    finally:
        torch.set_num_threads(threads)
    assert fingerprint(folder, SETTINGS.model_copy(update={"batch_size": 7})) == own


def test_calibration_scores_held_out_images_by_the_metrics_that_they_suffice_for(
    digits: Path, folder: Path, real: RealFeatures, held_out: NDArray[np.uint8]
) -> None:
    settings = SETTINGS.model_copy(update={"kid_subset_size": len(held_out) + 1})

    found = evaluation.calibrate(settings, digits, folder, CPU)

    expected = score(held_out, real, "fid", "isc", "prc")
    assert found == {"classifier": {"count": len(held_out), **expected}}
