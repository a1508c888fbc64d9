import numpy as np
import pytest
import torch
import torch_fidelity
from torch_fidelity.defaults import DEFAULTS

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import frechet, limits, reference, scores
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


def test_a_reference_that_is_too_small_is_refused_except_for_the_inception_score(real):
    with pytest.raises(UserError, match=r"the train split: 30 images are too few .* 'fid'"):
        limits.check_counts(SETTINGS, {"sample.count": 1000, "the train split": 30})
    alone = SETTINGS.model_copy(update={"metrics": ("isc",)})
    limits.check_counts(alone, {"sample.count": 1000, "the train split": 30})


@pytest.mark.parametrize(
    ("accuracy", "classes", "poor"), [(0.195, 100, True), (0.52, 100, False), (0.5, 10, True), (0.6, 10, False),
     (0.7, 2, True), (0.8, 2, False)],
)  # fmt: skip
def test_a_classifier_with_more_than_half_of_a_guess_s_errors_is_warned_of(accuracy, classes, poor, real, capsys):
    labels = np.arange(1000) % classes
    named = np.where(np.arange(1000) % 997 < 997 * accuracy, labels, (labels + 1) % classes)
    logits = torch.nn.functional.one_hot(torch.from_numpy(named), classes).float()
    reference.recognise(real.extractor, Features(torch.zeros(1000, 64), logits), labels)
    out, err = capsys.readouterr()
    assert err.startswith("warning: evaluate.extractors: classifier recognises") == poor
    assert f"class of {np.mean(named == labels):.1%}" in out


def test_the_limit_is_named_after_the_distance_and_left_out_where_images_are_few(real):
    many = Features(real.features, torch.zeros(len(real.features), 10))
    found, curve = scores.with_curve(many, real, SETTINGS)
    assert isinstance(curve, frechet.Curve)
    assert found.keys() - scores.score(many, real, SETTINGS).keys() == {"fd_infinity", "fd_infinity_se"}
    few = SETTINGS.model_copy(update={"metrics": ("fid",)})
    assert scores.with_curve(real.held_out, real, few)[1] is None
    kid = SETTINGS.model_copy(update={"metrics": ("kid",)})
    assert scores.with_curve(many, real, kid)[1] is None
