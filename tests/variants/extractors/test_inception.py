"""torch-fidelity's Inception without its weights: He-initialised, because the default initialisation collapses."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ddpm.base import files
from ddpm.data.processed import open_split
from ddpm.scoring import reference, scores, yardsticks
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import extract
from ddpm.variants.extractors.inception import Inception
from tests.processed import write_noise

CPU = torch.device("cpu")
FILE = "weights-inception-2015-12-05-6726825d.pth"


class Untrained(FeatureExtractorInceptionV3):
    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """He-initialise instead of reading weights."""
        torch.manual_seed(0)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


@pytest.fixture(scope="module")
def published() -> bytes:
    """A weights file in the format of the published one."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    network = Untrained("untrained", ["2048"], feature_extractor_weights_path=empty)
    buffer = io.BytesIO()
    torch.save(dict(network.state_dict()), buffer)
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's weights folder, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_inception_scores_as_torch_fidelity_s_own_from_weights_to_metrics(published, cache, tmp_path, monkeypatch):
    (cache / FILE).write_bytes(published)
    monkeypatch.setattr(
        Inception, "published", dataclasses.replace(Inception.published, sha256=files.sha256(cache / FILE))
    )
    monkeypatch.setattr(yardsticks, "FEWEST", 4)  # Inception takes a quarter of a second for each image
    processed = write_noise(tmp_path / "processed", 1, 8, 8, count=4)
    gray = np.array(open_split(processed, "train")[0])
    settings = Evaluate(extractors=("inception",), metrics=("kid",), kid_subset_size=4, kid_subsets=1)
    reference.make_reference(settings, processed, tmp_path / "reference", CPU)
    own = FeatureExtractorInceptionV3(
        "own", ["2048", "logits_unbiased"], feature_extractor_weights_path=io.BytesIO(published)
    )
    features, logits = own(torch.from_numpy(np.repeat(gray, 3, axis=1)))
    real = reference.load_features(tmp_path / "reference", "inception", CPU)
    torch.testing.assert_close(real.features, features)
    assert features.std(dim=0).mean() > 0.01 * features.mean()
    fake = extract(real.network, gray[:, :, ::-1] // 2, 4, CPU)
    assert scores.score(fake, real, settings)["kid_mean"] > 0
    found = extract(real.network, gray[:1], 1, CPU)
    torch.testing.assert_close(found.logits, logits[:1])
