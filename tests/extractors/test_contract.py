from __future__ import annotations

import pytest

from ddpm import extractors, variants


@pytest.mark.parametrize("name", variants.names("extractors"))
def test_every_extractor_states_its_features_and_names_its_distance(name: str) -> None:
    extractor = extractors.get(name)

    assert extractor.name == name
    assert extractor.dimensions > 0
    assert extractor.frechet == ("fid" if name == "inception" else "fd")
