import pytest
import torch

from ddpm.base import variant
from ddpm.scoring import extractor as extractors
from ddpm.variants.extractors.classifier import Classifier
from ddpm.variants.extractors.random_conv import RandomConv

CPU = torch.device("cpu")
QUICK = Classifier(min_steps=5, epochs=1)


@pytest.mark.parametrize("name", variant.names("extractors"))
def test_every_extractor_states_its_features_and_names_its_distance(name):
    extractor = extractors.get(name)
    assert extractor.name == name
    assert extractor.dimensions > 0
    assert extractor.frechet == ("fid" if name == "inception" else "fd")
    assert (extractor.resizer == "none") == (extractor.published is None)  # published networks see one size


@pytest.mark.parametrize("write", [QUICK.fit, RandomConv().write_weights], ids=["classifier", "random_conv"])
def test_weights_are_the_same_bytes_whatever_the_threads_and_the_global_seed(write, digits, tmp_path):
    for name, count in (("one", 1), ("two", 2)):
        torch.set_num_threads(count)
        torch.manual_seed(count)
        write(digits, tmp_path / name, CPU)
        assert torch.get_num_threads() == count
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
