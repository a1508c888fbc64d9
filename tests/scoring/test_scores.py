"""Scores, against torch-fidelity from end to end, and the reference that they are scored against; the Fréchet distance
and its limit, on Gaussians whose distance is known; draws of Gaussians fitted to the train images; and several eyes on
the scale that they give."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from hypothesis import given
from hypothesis import strategies as st
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split
from ddpm.scoring import distances, extractor, frechet, reference, scores, yardsticks
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import Features, extract
from ddpm.scoring.frechet import Distance
from ddpm.scoring.panel import combine, measure_panel, measure_share
from ddpm.scoring.yardsticks import GAUSSIAN, PER_CLASS
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


D = 8
SPREAD = torch.logspace(0, -2, D, dtype=torch.float64).sqrt()
DISTANCE = Distance(np.zeros(D), torch.diag(SPREAD.square()).numpy(), CPU)


def draw(count: int, seed: int, scale: float = 1.3, mean: float = 0.1):
    """N(mean, scale^2 diag(SPREAD^2))."""
    generator = torch.Generator().manual_seed(seed)
    return mean + scale * SPREAD * torch.randn(count, D, generator=generator, dtype=torch.float64)


def true_distance(scale: float = 1.3, mean: float = 0.1) -> float:
    """The distance between that and N(0, diag(SPREAD^2)): their covariances commute."""
    return D * mean**2 + (scale - 1) ** 2 * float(SPREAD.square().sum())


@pytest.mark.parametrize("rows", [1, 7, 64, 1000])
def test_statistics_of_many_images_are_summed_in_blocks(rows, monkeypatch):
    features = (1000 + draw(300, 0)).float()
    monkeypatch.setattr(frechet, "ROWS", rows)
    monkeypatch.setattr(distances, "MOST", 299)
    found = frechet.statistics(features)
    double = features.double().numpy()
    np.testing.assert_allclose(found["mu"], double.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found["sigma"], np.cov(double, rowvar=False), rtol=1e-8, atol=1e-10)


def test_the_distance_is_torch_fidelitys():
    mixing = torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    real, fake = draw(200, 0, mean=0.0) @ mixing, draw(150, 1)
    statistics = fid_features_to_statistics(real)
    expected = fid_statistics_to_metric(fid_features_to_statistics(fake), statistics, verbose=False)
    found = Distance(statistics["mu"], statistics["sigma"], CPU)(fake)
    assert found == pytest.approx(expected["frechet_inception_distance"], rel=1e-9)
    assert np.isfinite(Distance(statistics["mu"], statistics["sigma"], CPU)(fake[:3]))


def test_the_distance_falls_with_the_number_of_images_towards_its_limit():
    curve = frechet.extrapolate(draw(200, 0), DISTANCE)
    assert curve.n.tolist() == [200, 100, 66, 50]
    assert curve.fd[0] == pytest.approx(DISTANCE(draw(200, 0)), rel=1e-12)
    assert all(a < b for a, b in pairwise([curve.infinity, *curve.fd]))
    assert np.isnan(curve.fd_sd[0])
    assert (curve.fd_sd[1:] > 0).all()


def test_the_limit_is_the_true_distance_where_the_distance_itself_is_too_large():
    curves = [frechet.extrapolate(draw(80, seed), DISTANCE) for seed in range(40)]
    limits = np.array([curve.infinity for curve in curves])
    measured = np.array([curve.fd[0] for curve in curves])
    error = limits.std(ddof=1)
    assert limits.mean() == pytest.approx(true_distance(), abs=3 * error / np.sqrt(len(limits)))
    assert measured.mean() > true_distance() + 4 * measured.std() / np.sqrt(len(measured))
    said = np.mean([curve.infinity_se for curve in curves])
    assert 0.7 * error < said < 2 * error


GENERATOR = np.random.default_rng(0)


def images(count: int, centre: float = 128, sd: float = 8, shape: tuple[int, ...] = (2, 3, 2)) -> np.ndarray:
    """Images whose pixels are strongly correlated, far from the ends of the range."""
    shared = GENERATOR.normal(0, sd, (count, 1, 1, 1))
    return (centre + 2 * shared + GENERATOR.normal(0, sd, (count, *shape))).round().clip(0, 255).astype(np.uint8)


def test_draws_have_the_mean_and_the_covariance_of_the_pixels(monkeypatch):
    monkeypatch.setattr(yardsticks, "ROWS", 300)  # so that blocks matter
    train = images(700)
    drawn = yardsticks.gaussian(train, np.arange(700), torch.arange(8000), "test")
    assert (drawn.shape, drawn.dtype) == ((8000, 2, 3, 2), np.uint8)
    ours, theirs = (np.cov(part.reshape(len(part), -1).T.astype(float)) for part in (drawn, train))
    np.testing.assert_allclose(drawn.mean(0), train.mean(0), atol=0.8)
    np.testing.assert_allclose(ours, theirs, atol=0.06 * theirs.max())


def test_draws_are_clipped_and_one_image_is_its_own_gaussian():
    wild = np.where(GENERATOR.random((50, 1, 4, 4)) < 0.5, 0, 255).astype(np.uint8)
    drawn = yardsticks.gaussian(wild, np.arange(50), torch.arange(100), "test")
    assert {0, 255} <= set(np.unique(drawn))
    alone = yardsticks.gaussian(wild, np.array([7]), torch.arange(3), "test")
    np.testing.assert_array_equal(alone, wild[[7, 7, 7]])


def test_classes_come_in_their_shares_and_each_from_its_own_images():
    train = np.concatenate([images(300, centre=60), images(100, centre=190)])
    labels = np.repeat([3, 5], [300, 100])
    drawn = yardsticks.draw(train, labels)
    assert {name: part.shape for name, part in drawn.items()} == dict.fromkeys((GAUSSIAN, PER_CLASS), (1500, 2, 3, 2))
    bright = drawn[PER_CLASS].mean(axis=(1, 2, 3)) > 125
    assert bright.mean() == pytest.approx(0.25, abs=0.04)
    assert drawn[PER_CLASS][~bright].mean() == pytest.approx(60, abs=3)
    middle = np.abs(drawn[GAUSSIAN].mean(axis=(1, 2, 3)) - 125) < 25
    assert middle.mean() > 0.2, "one Gaussian of both draws what neither has"
    assert yardsticks.draw(train, np.zeros(400, np.int64)).keys() == {GAUSSIAN}


def test_a_draw_depends_on_its_number_alone(monkeypatch):
    train, labels = images(40), np.arange(40) % 2
    whole = yardsticks.draw(train, labels)
    monkeypatch.setattr(yardsticks, "FEWEST", 70)
    for name, drawn in yardsticks.draw(train, labels).items():
        np.testing.assert_array_equal(drawn, whole[name][:70])


SHARE = st.floats(0, 100)


def test_held_out_images_are_at_0_and_the_yardstick_at_1(real):
    drawn = real.yardsticks[PER_CLASS]
    count = len(real.held_out.features)
    assert measure_share(real.held_out, real) == pytest.approx(0, abs=1e-9)
    assert measure_share(Features(*(part[-count:] for part in drawn)), real) == pytest.approx(1, abs=0.25)
    far = Features(*(part[-count:] for part in real.yardsticks[GAUSSIAN]))
    assert measure_share(far, real) > 5  # where the images have classes, one Gaussian per class is the yardstick


def test_an_eye_that_takes_the_yardstick_for_real_still_tells_bad_from_good(real):
    """Linear features of photographs do: the yardstick has the train images' mean and covariance."""
    train = Features(real.features, real.features[:, :0])
    blind = replace(real, yardsticks=real.yardsticks | {PER_CLASS: train})
    assert measure_share(real.yardsticks[GAUSSIAN], blind) > 5
    assert abs(measure_share(train, blind)) <= 1 + 1e-9


def test_fewer_train_images_than_held_out_ones_have_a_scale(real):
    few = replace(real, features=real.features[: len(real.held_out.features) // 2])
    assert measure_share(real.held_out, few) == pytest.approx(0, abs=1e-9)
    assert measure_share(real.yardsticks[PER_CLASS], few) == pytest.approx(1, abs=0.25)


def test_all_eyes_are_combined_and_one_is_no_panel(real):
    eyes = measure_panel({"classifier": real.held_out}, {"classifier": real}, {"d_prime": 0.5}, {"d_prime": 2.0})
    assert eyes.keys() == {"classifier", "c2st", "score"}
    assert eyes["c2st"] == 0.25
    assert eyes["score"] == combine([eyes["classifier"], 0.25])
    assert measure_panel({"classifier": real.held_out}, {"classifier": real}, {}, {"d_prime": 2.0}) == {}


@given(st.lists(SHARE, min_size=2, max_size=5), st.integers(0, 4), st.floats(0.01, 10))
def test_a_worse_eye_makes_the_score_worse_and_equal_eyes_are_the_score(shares, place, more):
    place %= len(shares)
    worse = [share + more * (n == place) for n, share in enumerate(shares)]
    assert combine(worse) > combine(shares)
    assert combine(shares[:1] * 3) == pytest.approx(shares[0], abs=1e-9)
    assert combine(shares) <= max(shares) + 1e-9


def test_an_eye_that_sees_better_than_real_does_not_make_up_for_another():
    assert combine([-0.47, 0.56]) == combine([0, 0.56]) > combine([-0.47, 0])
