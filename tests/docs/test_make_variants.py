"""The pictures in docs/ show every schedule and every sampler."""

import pytest
import torch
from PIL import Image

from ddpm.model.model_file import load_model
from docs import make_variants
from tests.small import DENOISING, pictures


@pytest.mark.long
def test_the_pictures_are_written_with_a_row_of_images_for_every_sampler(model_file, tmp_path):
    cpu = torch.device("cpu")
    model = load_model(model_file, cpu)
    assert sorted(make_variants.sampled(model, 0, cpu)) == DENOISING
    paths = make_variants.draw(model, pictures(), tmp_path, cpu)
    assert [path.name for path in paths] == ["schedules.png", "forward.png", "samplers.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 100
