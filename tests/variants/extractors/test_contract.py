"""What every extractor promises."""

import numpy as np
import pytest
import torch

from ddpm.data.processed import open_split
from ddpm.scoring.features import extract
from ddpm.variants.extractors.classifier import Classifier
from ddpm.variants.extractors.components import Components
from ddpm.variants.extractors.random_conv import RandomConv
from tests.processed import write_noise

CPU = torch.device("cpu")
QUICK = Classifier(min_steps=5, epochs=1)


@pytest.mark.parametrize(
    ("channels", "height", "width"), [(1, 1, 1), (1, 1, 2), (3, 8, 12), (5, 3, 40), (64, 9, 2), (3, 64, 64)]
)
@pytest.mark.parametrize(
    "extractor", [Classifier(min_steps=30, epochs=1), RandomConv(), Components()], ids=lambda one: one.name
)
def test_it_sees_images_of_any_shape(extractor, tmp_path, channels, height, width):
    """The classifier learns them; others need no classes."""
    processed = write_noise(tmp_path / "processed", channels, height, width)
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


@pytest.mark.parametrize(
    "write",
    [QUICK.fit, RandomConv().write_weights, Components().write_weights],
    ids=["classifier", "random_conv", "components"],
)
def test_weights_are_the_same_bytes_whatever_the_threads_and_the_global_seed(write, digits, tmp_path):
    for name, count in (("one", 1), ("two", 2)):
        torch.set_num_threads(count)
        torch.manual_seed(count)
        write(digits, tmp_path / name, CPU)
        assert torch.get_num_threads() == count
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
