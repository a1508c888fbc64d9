"""Scores, against torch-fidelity from end to end, and the reference that they are scored against."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.defaults import DEFAULTS

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import distances, extractor, frechet, reference, scores
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from tests.small import CPU

NAMES = {
    "fd": "frechet_inception_distance", "is_mean": "inception_score_mean", "is_std": "inception_score_std",
    "kid_mean": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std",
    "precision": "precision", "recall": "recall",
}  # fmt: skip
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=20, kid_subset_size=150)


class Images(torch.utils.data.TensorDataset):
    """Each item an image, not a tuple of one."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return super().__getitem__(index)[0]


def test_scores_are_those_of_torch_fidelity_end_to_end(digits, real, held_out):
    """torch-fidelity's one public call, with the network registered as an extractor, on images, not stored features."""

    class Registered(torch_fidelity.FeatureExtractorBase):
        def __init__(self, name: str, features_list: list[str], **_):
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
        "feature_extractor": "digits-classifier", "kid_subsets": SETTINGS.kid_subsets,
        "kid_subset_size": SETTINGS.kid_subset_size, "prc_neighborhood": SETTINGS.prc_neighborhood, "isc": True,
        "fid": True, "kid": True, "prc": True, "cuda": False, "save_cpu_ram": True, "cache": False, "verbose": False,
    }  # fmt: skip
    assert settings.keys() <= DEFAULTS.keys()  # it ignores what it does not know
    images = (Images(torch.from_numpy(part)) for part in (held_out, np.array(open_split(digits, "train")[0])))
    expected = torch_fidelity.calculate_metrics(**dict(zip(("input1", "input2"), images, strict=True)), **settings)
    found = scores.score(extract(real.network, held_out, SETTINGS.batch_size, CPU), real, SETTINGS)
    assert found.keys() == NAMES.keys()
    for key, name in NAMES.items():
        assert found[key] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), key


def test_a_number_that_is_not_finite_is_refused(real):
    overconfident = Features(real.held_out.features, real.held_out.logits * 1e6)
    with pytest.raises(UserError, match=r"classifier\.is_mean, classifier\.is_std"):
        scores.score(overconfident, real, SETTINGS.model_copy(update={"metrics": ("isc",)}))


def test_of_large_splits_a_part_is_kept_and_the_statistics_are_of_all(digits, real, tmp_path, monkeypatch):
    monkeypatch.setattr(distances, "MOST", 200)
    monkeypatch.setattr(frechet, "ROWS", 128)
    monkeypatch.setattr(reference, "AT_ONCE", 300)
    settings = SETTINGS.model_copy(update={"batch_size": 50})
    reference.make_reference(settings, digits, tmp_path / "large", CPU)
    found = reference.load_features(tmp_path / "large", "classifier", CPU)
    assert len(found.features) == 200
    torch.testing.assert_close(found.features, real.features[distances.rows(1438, 200)], rtol=1e-5, atol=1e-5)
    of_all = frechet.statistics(real.features)
    np.testing.assert_allclose(found.mu, of_all["mu"], rtol=1e-5)
    np.testing.assert_allclose(found.sigma, of_all["sigma"], rtol=1e-4, atol=1e-6)
    held_out = real.held_out.features[distances.rows(359, 200)].double()
    between = torch.cdist(held_out, found.features.double())
    np.testing.assert_allclose(found.nearest.distance, between.min(1).values, rtol=1e-3, atol=1e-3)
    apart = torch.cdist(found.features.double(), found.features.double()).kthvalue(2, dim=1).values
    np.testing.assert_allclose(found.apart, apart, rtol=1e-3, atol=1e-3)
    train, test = (np.array(distances.part(open_split(digits, split)[0], 200)) for split in ("train", "test"))
    pixels = torch.cdist(*(torch.from_numpy(images).flatten(1).double() for images in (test, train)))
    np.testing.assert_allclose(reference.load_pixels(tmp_path / "large").distance, pixels.min(1).values, rtol=1e-6)


def test_a_failure_leaves_nothing_and_keeps_what_was_there(digits, classifier_reference, tmp_path, monkeypatch):
    copied = Path(shutil.copytree(classifier_reference, tmp_path / "reference"))
    before = reference.read_reference(copied)

    def fails(*_: object) -> None:
        raise UserError("no weights")

    monkeypatch.setattr(extractor.get("classifier").__class__, "write_weights", fails)
    with pytest.raises(UserError, match="no weights"):
        reference.make_reference(SETTINGS, digits, copied, CPU)
    assert reference.read_reference(copied) == before
    assert sorted(path.name for path in copied.parent.iterdir()) == ["reference"]
