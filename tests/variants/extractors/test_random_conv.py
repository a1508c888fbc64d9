import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ddpm.data.processed import open_split
from ddpm.scoring.features import extract
from ddpm.variants.extractors.random_conv import RandomConv
from tests.processed import write_noise
from tests.small import CPU


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
