"""What every extractor promises; the features of random filters; and what the classifier learns, or is shipped with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ddpm.base import files
from ddpm.data.processed import open_split
from ddpm.scoring.features import extract
from ddpm.scoring.networks import components_network
from ddpm.scoring.networks.classifier_network import shift
from ddpm.variants.extractors.classifier import SHIPPED, Classifier, read_metadata
from ddpm.variants.extractors.components import Components
from ddpm.variants.extractors.random_conv import RandomConv
from tests.processed import write_noise
from tests.small import CPU

OTHERS = [RandomConv(), Components()]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (3, 8, 12), (5, 3, 40), (64, 9, 2), (3, 64, 64)])
@pytest.mark.parametrize("extractor", [Classifier(min_steps=30, epochs=1), *OTHERS], ids=lambda one: one.name)
def test_it_sees_images_of_any_shape(extractor, tmp_path, shape):
    """The classifier learns them; others need no classes."""
    processed = write_noise(tmp_path / "processed", *shape)
    extractor.write_weights(processed, tmp_path / "weights", CPU)
    images, labels = open_split(processed, "test")
    found = extract(extractor.load(tmp_path / "weights"), images, 7, CPU)
    assert found.features.shape == (40, extractor.dimensions)
    assert found.features.isfinite().all()
    assert found.features.std() > 0.1
    if extractor.name == "classifier":
        assert np.mean(found.logits.argmax(1).numpy() == labels) > 0.8
    else:
        assert found.logits.shape == (40, 0)


WRITE = {"classifier": Classifier(min_steps=5, epochs=1).fit, **{one.name: one.write_weights for one in OTHERS}}


@pytest.mark.parametrize("name", WRITE)
def test_weights_are_the_same_bytes_whatever_the_threads_and_the_global_seed(name, digits, tmp_path):
    for count in (1, 2):
        torch.set_num_threads(count)
        torch.manual_seed(count)
        WRITE[name](digits, tmp_path / str(count), CPU)
        assert torch.get_num_threads() == count
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_another_machine_s_rounding_errors_do_not_change_the_bytes_of_components():
    """In another order the sums round differently; a frame of one level gives entries of 0."""
    images, generator = np.zeros((40, 1, 8, 8), np.uint8), np.random.default_rng(0)
    images[:, :, 2:6, 2:6] = generator.integers(0, 256, (40, 1, 4, 4))
    fits = [components_network.fit(one, 32) for one in (images, images[::-1], generator.permutation(images))]
    for name in ("mean", "basis"):
        assert len({each[name].numpy().tobytes() for each in fits}) == 1, name
    basis = fits[0]["basis"].numpy()
    assert not np.signbit(basis[basis == 0]).any()


def test_a_feature_is_the_mean_or_the_deviation_of_two_layers_of_random_filters(digits, tmp_path):
    """In float64, from the filters in the file alone: the last quarter's mean at full size, and the deviation after
    means over 4 x 4 pixels."""
    RandomConv().write_weights(digits, tmp_path / "weights", CPU)
    network, images = RandomConv().load(tmp_path / "weights"), np.array(open_split(digits, "train")[0][:3])
    tensors = {name: tensor.double() for name, tensor in network.state_dict().items()}
    pixels, features = torch.from_numpy(images).double() / 127.5 - 1, extract(network, images, 3, CPU).features

    def responses(scale: int, x: torch.Tensor) -> torch.Tensor:
        for layer in range(2):
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), tensors[f"filters_{scale}_{layer}"]).clamp(min=0)
        return x

    full, coarse = responses(1, pixels), responses(4, pixels.view(3, 1, 4, 4, 4, 4).mean(dim=(3, 5)))
    means, deviations = full[:, 0, 8:, 8:].mean(dim=(1, 2)), coarse[:, -1].std(dim=(1, 2), correction=0)
    for column, expected in ((3, means), (-1, deviations)):
        normalised = (expected - tensors["mean"][column]) / tensors["scale"][column]
        torch.testing.assert_close(features[:, column].double(), normalised, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [16, 64])
def test_the_images_that_are_passed_together_change_no_bit(tmp_path, size):
    processed = write_noise(tmp_path / "processed", 3, size, size)
    RandomConv().write_weights(processed, tmp_path / "weights", CPU)
    network, (images, _) = RandomConv().load(tmp_path / "weights"), open_split(processed, "train")
    whole = extract(network, images, 40, CPU).features
    for together in (1, 3, 7, 21):
        assert torch.equal(extract(network, images, together, CPU).features, whole), together


QUICK = Classifier(min_steps=30, epochs=1)


def test_shipped_weights_know_held_out_digits(digits, tmp_path):
    Classifier().write_weights(digits, tmp_path / "weights.safetensors", CPU)
    network = Classifier().load(tmp_path / "weights.safetensors")
    images, labels = open_split(digits, "test")
    assert files.sha256(tmp_path / "weights.safetensors") == files.sha256(SHIPPED / "digits16.safetensors")
    found = extract(network, images, 64, CPU)
    assert found.features.shape == (len(images), Classifier.dimensions)
    assert np.mean(found.logits.argmax(1).numpy() == labels) >= 0.985


def test_another_train_split_never_gets_shipped_weights(digits, tmp_path):
    other = Path(shutil.copytree(digits, tmp_path / "processed"))
    labels = np.load(other / "train/labels.npy")
    labels[0] = (labels[0] + 1) % 10
    np.save(other / "train/labels.npy", labels)
    about = files.read_json(other / "manifest.json")
    about["sha256"]["train"] = files.sha256(other / "train")
    files.write_json(other / "manifest.json", about)
    QUICK.write_weights(other, tmp_path / "weights.safetensors", CPU)
    about = read_metadata(tmp_path / "weights.safetensors")
    assert about["recipe"]["min_steps"] == 30
    assert about["train_sha256"] == files.sha256(other / "train")


def test_shift_moves_each_image_by_its_own_offset_and_repeats_the_edge():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (9, 2, 5, 6), dtype=np.uint8)
    offsets = [(down, right) for down in (-2, 0, 1) for right in (-1, 0, 2)]
    moved = shift(torch.from_numpy(images), *torch.tensor(offsets).T[..., None])
    for image, got, (down, right) in zip(images, moved.numpy(), offsets, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="edge")
        np.testing.assert_array_equal(got, padded[:, 2 - down : 7 - down, 2 - right : 8 - right])


@pytest.mark.parametrize(("channels", "told_apart"), [(1, True), (3, False), (5, True)])
def test_photographs_are_learned_mirrored_and_nothing_else_is(tmp_path, channels, told_apart):
    """Bright on the left, or on the right."""
    processed = write_noise(tmp_path / "processed", channels, 8, 8)
    images, labels = open_split(processed, "train")
    sides = np.where(np.arange(8) < 4, 200, 50).astype(np.uint8)
    images = np.broadcast_to(np.where(labels[:, None, None, None] == 0, sides, sides[::-1]), images.shape)
    np.save(processed / "train/images.npy", images)
    QUICK.fit(processed, tmp_path / "weights", CPU)
    logits = extract(Classifier().load(tmp_path / "weights"), images, 16, CPU).logits
    assert (np.mean(logits.argmax(1).numpy() == labels) > 0.9) == told_apart
