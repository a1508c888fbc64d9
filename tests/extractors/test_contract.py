import pytest

from ddpm.base import variant
from ddpm.scoring import extractor as extractors


@pytest.mark.parametrize("name", variant.names("extractors"))
def test_every_extractor_states_its_features_and_names_its_distance(name):
    extractor = extractors.get(name)

    assert extractor.name == name
    assert extractor.dimensions > 0
    assert extractor.frechet == ("fid" if name == "inception" else "fd")
