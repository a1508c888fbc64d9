import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.defaults import DEFAULTS

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import scores
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract

CPU = torch.device("cpu")
NAMES = {
    "fd": "frechet_inception_distance", "is_mean": "inception_score_mean", "is_std": "inception_score_std",
    "kid_mean": "kernel_inception_distance_mean", "kid_std": "kernel_inception_distance_std",
    "precision": "precision", "recall": "recall",
}  # fmt: skip
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=20, kid_subset_size=150)


def score(images, real, *metrics: str) -> dict[str, float]:
    fake = extract(real.network, images, SETTINGS.batch_size, CPU)
    return scores.score(fake, real, SETTINGS.model_copy(update={"metrics": metrics}))


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
    found = score(held_out, real, *SETTINGS.metrics)
    assert found.keys() == NAMES.keys()
    for key, name in NAMES.items():
        assert found[key] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), key


def test_a_number_that_is_not_finite_is_refused(real):
    overconfident = Features(real.held_out.features, real.held_out.logits * 1e6)
    with pytest.raises(UserError, match=r"classifier\.is_mean, classifier\.is_std"):
        scores.score(overconfident, real, SETTINGS.model_copy(update={"metrics": ("isc",)}))
