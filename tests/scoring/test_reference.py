import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.base.errors import UserError
from ddpm.data.processed import open_split, read_manifest
from ddpm.scoring import distances, extractor, frechet, reference
from ddpm.scoring.evaluate_params import Evaluate

CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=5, kid_subset_size=100)


@pytest.fixture
def folder(classifier_reference, tmp_path) -> Path:
    return Path(shutil.copytree(classifier_reference, tmp_path / "reference"))


def test_it_holds_the_features_of_every_image_and_the_statistics_of_train_images(digits, folder):
    images, held_out = (open_split(digits, split)[0] for split in ("train", "test"))
    index = reference.read_reference(folder)
    real = reference.load_features(folder, "classifier", CPU)
    assert index.manifest == read_manifest(digits)
    for found, expected in zip(real.held_out, real.network(torch.from_numpy(np.array(held_out))), strict=True):
        torch.testing.assert_close(found, expected.detach())
    expected = real.network(torch.from_numpy(np.array(images))).features.detach()
    torch.testing.assert_close(real.features, expected)
    np.testing.assert_allclose(real.mu, expected.double().mean(0), rtol=1e-4)
    np.testing.assert_allclose(real.sigma, torch.cov(expected.double().T), rtol=1e-3, atol=1e-5)


def test_of_large_splits_a_part_is_kept_and_the_statistics_are_of_all(digits, folder, tmp_path, monkeypatch):
    whole = reference.load_features(folder, "classifier", CPU)
    monkeypatch.setattr(distances, "MOST", 200)
    monkeypatch.setattr(frechet, "ROWS", 128)
    monkeypatch.setattr(reference, "AT_ONCE", 300)
    settings = SETTINGS.model_copy(update={"batch_size": 50})
    reference.make_reference(settings, digits, tmp_path / "large", CPU)
    found = reference.load_features(tmp_path / "large", "classifier", CPU)
    assert len(found.features) == 200
    torch.testing.assert_close(found.features, whole.features[distances.rows(1438, 200)], rtol=1e-5, atol=1e-5)
    of_all = frechet.statistics(whole.features)
    np.testing.assert_allclose(found.mu, of_all["mu"], rtol=1e-5)
    np.testing.assert_allclose(found.sigma, of_all["sigma"], rtol=1e-4, atol=1e-6)
    held_out = whole.held_out.features[distances.rows(359, 200)].double()
    between = torch.cdist(held_out, found.features.double())
    np.testing.assert_allclose(found.nearest.distance, between.min(1).values, rtol=1e-3, atol=1e-3)
    apart = torch.cdist(found.features.double(), found.features.double()).kthvalue(2, dim=1).values
    np.testing.assert_allclose(found.apart, apart, rtol=1e-3, atol=1e-3)
    train, test = (np.array(distances.part(open_split(digits, split)[0], 200)) for split in ("train", "test"))
    pixels = torch.cdist(*(torch.from_numpy(images).flatten(1).double() for images in (test, train)))
    np.testing.assert_allclose(reference.load_pixels(tmp_path / "large").distance, pixels.min(1).values, rtol=1e-6)


def test_a_failure_leaves_nothing_and_keeps_what_was_there(digits, folder, monkeypatch):
    before = reference.read_reference(folder)

    def fails(*_: object) -> None:
        raise UserError("no weights")

    monkeypatch.setattr(extractor.get("classifier").__class__, "write_weights", fails)
    with pytest.raises(UserError, match="no weights"):
        reference.make_reference(SETTINGS, digits, folder, CPU)
    assert reference.read_reference(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["reference"]
