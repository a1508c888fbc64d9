import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.base import files
from ddpm.data.processed import open_split
from ddpm.scoring.features import extract
from ddpm.scoring.networks.classifier_network import shift
from ddpm.variants.extractors.classifier import SHIPPED, Classifier, read_metadata
from tests.processed import write_noise
from tests.small import CPU

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
