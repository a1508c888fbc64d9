"""What an experiment keeps for people to look at."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import experiment


@pytest.mark.parametrize("model", [True, False])
def test_a_run_keeps_squares_of_its_images_and_of_real_ones_and_its_model_if_asked(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, shade in (("data/samples/samples.npy", 50), ("data/processed/test/images.npy", 200)):
        Path(path).parent.mkdir(parents=True)
        np.save(path, np.full((90, 3, 8, 8), shade, np.uint8))
    Path("data/model").mkdir()
    Path("data/model/model.safetensors").write_bytes(b"weights")
    experiment._keep(Path("find"), model)
    for name, shade in (("grid", 50), ("real", 200)):
        with Image.open(f"find/{name}.png") as picture:
            assert picture.width == picture.height < 5 * 9 * 20
            assert {color for _, color in picture.getcolors()} == {(shade,) * 3, (128,) * 3}
    kept = Path("find/model.safetensors")
    assert kept.read_bytes() == b"weights" if model else not kept.exists()
    Path("data/model/model.safetensors").write_bytes(b"others")  # it is a copy: the next training takes that folder
    assert not model or kept.read_bytes() == b"weights"
