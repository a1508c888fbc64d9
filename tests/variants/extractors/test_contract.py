"""What every extractor promises."""

import numpy as np
import pytest
import torch

from ddpm.data.processed import open_split
from ddpm.scoring.features import extract
from ddpm.scoring.networks import components_network
from ddpm.variants.extractors.classifier import Classifier
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
