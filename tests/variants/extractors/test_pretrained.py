"""Networks of published weights, with small random weights in the place of the published ones.

``double`` makes a file in the published format under its own names, from sizes that a test can afford.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torchvision import transforms

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.scoring import extractor as extractors
from ddpm.scoring import limits, reference, yardsticks
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import extract
from ddpm.scoring.networks import dinov2_network, efficientnet_lite0_network
from ddpm.scoring.pretrained import Pretrained
from tests.processed import write_noise

CPU = torch.device("cpu")
WIDTH, DEPTH, HEADS, SIDE = 24, 2, 3, 28
NAMES = [name for name in variant.names("extractors") if isinstance(extractors.get(name), Pretrained)]
# bytes of the published files
SIZES = {
    "dinov2": 1_217_586_395,
    "efficientnet_lite0": 18_776_292,  # the tensors alone
}


Double = Callable[[str], tuple[Pretrained, dict[str, Tensor]]]


@pytest.fixture
def double(tmp_path, monkeypatch) -> Double:
    """name -> the extractor at a small size, and its network's random weights, whose file is in torch.hub's cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def build(name: str) -> tuple[Pretrained, dict[str, Tensor]]:
        chosen = extractors.get(name)
        assert isinstance(chosen, Pretrained)
        kind, outputs = type(chosen), 12
        if name == "dinov2":
            outputs, small = WIDTH, dinov2_network.TransformerShape(WIDTH, DEPTH, HEADS, grid=3)
            monkeypatch.setattr(dinov2_network, "VIT_L14", small)
        else:
            monkeypatch.setattr(efficientnet_lite0_network, "STAGES", ((1, 3, 1, 4, 1), (2, 5, 2, 6, 2)))
            monkeypatch.setattr(efficientnet_lite0_network, "HEAD", outputs)
            monkeypatch.setattr(kind, "names", {})
            elsewhere = {"url": "https://example.org/lite0.pth", "file": "", "package": ""}
            monkeypatch.setattr(kind, "published", dataclasses.replace(chosen.published, **elsewhere))
        monkeypatch.setattr(kind, "dimensions", outputs)
        monkeypatch.setattr(kind, "view", dataclasses.replace(chosen.view, size=SIDE))
        torch.manual_seed(0)
        network = chosen.network()
        state = {key: torch.randn(value.shape) * 0.3 for key, value in network.state_dict().items()}
        state |= {key: torch.full_like(value, 0.01) for key, value in state.items() if key.endswith("running_var")}
        published = {"mask_token": torch.zeros(1, WIDTH), **state}
        chosen.published.location.parent.mkdir(parents=True, exist_ok=True)
        torch.save(published, chosen.published.location)
        sha256 = files.sha256(chosen.published.location)
        monkeypatch.setattr(kind, "published", dataclasses.replace(chosen.published, sha256=sha256))
        return chosen, state

    return build


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_as_large_as_what_was_published(name):
    chosen = extractors.get(name)
    assert isinstance(chosen, Pretrained)
    with torch.device("meta"):
        network = chosen.network()
        found = network(torch.empty(2, 3, chosen.view.size, chosen.view.size))
    size = sum(4 * tensor.numel() for tensor in network.state_dict().values())

    assert size == pytest.approx(SIZES[name], rel=1e-3)
    assert found.features.shape == (2, chosen.dimensions)
    assert found.logits.shape == (2, 1000 if chosen.has_logits else 0)


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_are_converted_once_and_give_the_features_of_their_network(name, double, tmp_path):
    chosen, state = double(name)
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 9, 14), dtype=np.uint8)

    for path in ("one", "two"):
        chosen.write_weights(tmp_path, tmp_path / path, CPU)
    found = extract(chosen.load(tmp_path / "one"), images, 2, CPU)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert load_file(tmp_path / "one").keys() == state.keys()
    network = chosen.network().eval()
    network.load_state_dict(state)
    expected = network(chosen.view(torch.from_numpy(images)))
    torch.testing.assert_close(found.features, expected.features.detach(), rtol=1e-4, atol=1e-4)
    assert found.features.shape == (5, chosen.dimensions)
    assert found.features.std(dim=0).mean() > 1e-3


@pytest.mark.parametrize("name", ["inception", *(name for name in NAMES if name != "efficientnet_lite0")])
def test_offline_is_one_line_with_the_address_and_the_place(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    chosen = extractors.get(name)
    assert chosen.published is not None
    url = "http://127.0.0.1:9/weights.pth"
    monkeypatch.setattr(type(chosen), "published", dataclasses.replace(chosen.published, url=url))

    with pytest.raises(UserError) as caught:
        chosen.write_weights(tmp_path, tmp_path / "weights", CPU)

    file = chosen.published.location
    assert file.parent == tmp_path / "torch/hub/checkpoints"
    assert str(caught.value).startswith(f"evaluate.extractors: {name} needs {url} (")
    assert f"put {url} at {file}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Payload:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("name", ["inception", "dinov2"])
def test_a_file_that_is_not_the_published_one_is_refused_unread(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    chosen = extractors.get(name)
    assert chosen.published is not None
    chosen.published.location.parent.mkdir(parents=True)
    torch.save(Payload(tmp_path / "executed"), chosen.published.location)
    with pytest.raises(UserError, match=rf"sha256 .* {chosen.published.title} weights"):
        chosen.write_weights(tmp_path, tmp_path / "weights", CPU)
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 14), (32, 32), (300, 500)])
def test_it_sees_what_torchvision_makes_of_the_picture_pixel_by_pixel(name, height, width):
    """dgm-eval's transform of DINOv2."""
    chosen = extractors.get(name)
    assert isinstance(chosen, Pretrained)
    images = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
    theirs = transforms.Compose(
        [
            transforms.Resize((chosen.view.size, chosen.view.size), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(chosen.view.mean, chosen.view.std),
        ]
    )
    expected = torch.stack([theirs(Image.fromarray(image.transpose(1, 2, 0))) for image in images])
    assert torch.equal(chosen.view(torch.from_numpy(images)), expected)
    gray = [theirs(Image.fromarray(image[0]).convert("RGB")) for image in images]
    assert torch.equal(chosen.view(torch.from_numpy(images[:, :1])), torch.stack(gray))


@pytest.mark.parametrize("name", NAMES)
def test_gray_is_repeated_and_said_once(name, double, tmp_path, capsys, monkeypatch):
    double(name)
    monkeypatch.setattr(yardsticks, "FEWEST", 4)
    processed = write_noise(tmp_path / "processed", 1, 8, 8, count=6)
    settings = Evaluate(extractors=(name,), metrics=("kid",), kid_subset_size=4, kid_subsets=1, batch_size=2)

    reference.make_reference(settings, processed, tmp_path / "reference", CPU)

    assert capsys.readouterr().err.count(f"evaluate.extractors: {name} ") == 1
    real = reference.load_features(tmp_path / "reference", name, CPU)
    assert real.features.shape == (6, real.extractor.dimensions)


@pytest.mark.parametrize("name", NAMES)
def test_other_channels_are_refused(name):
    for channels in (1, 3):
        limits.check_channels(Evaluate(extractors=(name,)), channels)
    with pytest.raises(UserError, match=rf"{name} .* data\.channels is 4"):
        limits.check_channels(Evaluate(extractors=(name,)), 4)
