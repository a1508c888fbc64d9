"""torch-fidelity's Inception without its weights: He-initialised, because the default initialisation collapses."""

import dataclasses
import io

import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ddpm.base import files
from ddpm.scoring.features import extract
from ddpm.variants.extractors.inception import Inception

CPU = torch.device("cpu")
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
