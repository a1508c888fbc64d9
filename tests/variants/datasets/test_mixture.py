"""The mixture's closed forms against dense ones; then it is the truth that samplers and losses meet."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm.base import variant
from ddpm.base.errors import UserError
from ddpm.compute import noise
from ddpm.data import preprocessing
from ddpm.variants.datasets.mixture import Mixture
from tests.peers import exact
from tests.small import small

PLANE = Mixture(components=3, size=(1, 2), ratio=0.6)
PICTURES = Mixture(components=5, size=(3, 4), channels=3, ratio=0.8)


def normals(purpose: str, count: int, *shape: int) -> Tensor:
    return noise.gaussian(0, purpose, torch.arange(count), 0, shape).double()


def check_moments(x_0: Tensor, truth: exact.Truth, bound: float) -> None:
    """Every entry of mean and covariance is within ``bound`` standard errors of the truth. x_0: (N, D)."""
    mean, covariance = truth.moments()
    offset = x_0 - mean
    products = offset[:, :, None] * offset[:, None]
    for found, expected in ((offset, torch.zeros_like(mean)), (products, covariance)):
        error = found.std(0) / len(x_0) ** 0.5
        worst = float(((found.mean(0) - expected) / error).abs().max())
        assert worst < bound, f"{worst:.1f} standard errors"


def drawn(truth: exact.Truth, count: int) -> tuple[Tensor, Tensor]:
    """x_0 and its classes."""
    labels = torch.from_numpy(np.random.default_rng(0).choice(len(truth.weights), count, p=truth.weights.numpy()))
    pixels, rank = truth.factors.shape[1:]
    return truth.draw(labels, normals("pixels", count, pixels), normals("factors", count, rank)), labels


# --- the maths


@pytest.mark.parametrize("mixture", [PLANE, PICTURES], ids=["plane", "pictures"])
def test_posteriors_are_those_of_torchs_dense_normals(mixture):
    truth, (signal, sigma) = exact.of(mixture), (0.8, 0.6)
    x_t, means = normals("x", 20, *truth.shape), truth.means.flatten(1)
    pixels = means.shape[1]
    noisy = signal**2 * truth.covariances() + sigma**2 * torch.eye(pixels)
    offset = x_t.flatten(1)[:, None] - signal * means
    log_joint = torch.distributions.MultivariateNormal(0 * means, noisy).log_prob(offset) + truth.weights.log()
    torch.testing.assert_close(truth.class_posterior(x_t, signal, sigma), log_joint.softmax(1))
    gains = signal * truth.covariances() @ torch.linalg.inv(noisy)
    of_classes = means + torch.einsum("kde,bke->bkd", gains, offset)
    whole = torch.einsum("bk,bkd->bd", log_joint.softmax(1), of_classes)
    torch.testing.assert_close(truth.posterior_mean(x_t, signal, sigma).flatten(1), whole)


# --- the dataset


def test_images_have_the_mean_and_covariance_and_class_shares_of_the_truth(tmp_path):
    """Within 4.5 standard errors, of which 12 pixels by 12 and their signs exceed none in 1,000 seeds' worth."""
    mixture = Mixture(components=3, count=20_000, size=(2, 2), channels=3, ratio=0.6)
    mixture.download(None, tmp_path / "raw")
    originals = mixture.read(tmp_path / "raw")
    images = np.stack([np.asarray(originals.open(i)) for i in range(mixture.count)]).transpose(0, 3, 1, 2)
    x_0 = torch.from_numpy(images / 127.5 - 1).flatten(1)
    check_moments(x_0, exact.of(mixture), 4.5)
    shares = np.bincount(originals.labels) / mixture.count
    weights = exact.of(mixture).weights.numpy()
    assert (np.abs(shares - weights) < 4.5 * np.sqrt(weights * (1 - weights) / mixture.count)).all()
    guess = exact.of(mixture).class_posterior(torch.from_numpy(images / 127.5 - 1), 1, 0)
    assert (guess.argmax(1).numpy() == originals.labels).mean() > 0.99, "a label is the component that drew the image"


def test_another_seed_is_another_mixture_and_count_only_adds_images(tmp_path):
    few, more, other = Mixture(count=10), Mixture(count=700), Mixture(count=10, seed=1)
    for i, mixture in enumerate((few, more, other)):
        mixture.download(None, tmp_path / str(i))
    first, longer, second = (np.load(tmp_path / str(i) / "mixture.npz")["images"] for i in range(3))
    assert (first != second).any()
    assert (few.truth().means == more.truth().means).all()
    assert len(longer) == 700
    assert len(np.unique(longer.reshape(700, -1), axis=0)) == 700, "each chunk has draws of its own"


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (3, 3)])
def test_it_is_preprocessed_unchanged_at_its_own_size(channels, kept, tmp_path):
    mixture = Mixture(count=40, size=(8, 8), channels=channels)
    mixture.download(None, tmp_path / "raw")
    config = small(data={"dataset": mixture.model_dump(), "channels": channels})
    preprocessing.preprocess(config.data, tmp_path / "raw", tmp_path / "processed")
    images = np.load(tmp_path / "raw/mixture.npz")["images"].reshape(40, 8, 8, channels).transpose(0, 3, 1, 2)
    found = np.concatenate([np.load(tmp_path / "processed" / split / "images.npy") for split in ("train", "test")])
    np.testing.assert_array_equal(np.unique(found, axis=0), np.unique(images, axis=0))


@pytest.mark.parametrize("other", [{"image_size": 16}, {"image_size": [8, 4]}, {"channels": 3}])
def test_another_shape_than_its_own_is_refused(other):
    """Resized images would not be of the distribution that ``truth`` states."""
    own = {"dataset": Mixture(size=(4, 8)).model_dump(), "image_size": [4, 8]}
    assert small(data=own).data.shape == (1, 4, 8)
    with pytest.raises(UserError, match=r"data: image_size: .* allowed: \[4, 8\] and 1, as dataset\.mixture\.size"):
        small(data=own | other)


def test_too_many_bytes_and_a_source_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"count: 10000000 "):
        variant.build("datasets", {"name": "mixture", "mixture": {"count": 10_000_000, "size": (1024, 1024)}}, "d")
    with pytest.raises(UserError, match=r"data\.source: 'x' "):
        Mixture().download("x", tmp_path / "raw")
