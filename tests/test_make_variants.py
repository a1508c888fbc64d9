"""The pictures in docs/ show every schedule and every sampler."""

import pytest
import torch
from PIL import Image

from ddpm.base import variant
from ddpm.model.model_file import load_model
from docs import make_variants
from tests.small import pictures


@pytest.mark.long
def test_every_sampler_has_a_row_of_images_from_the_same_noise(model_file):
    cpu = torch.device("cpu")
    rows = make_variants.sampled(load_model(model_file, cpu), 0, cpu)
    assert sorted(rows) == variant.names("samplers")
    count = make_variants.IMAGES * len(make_variants.EVALUATIONS)
    assert all(images.shape == (count, 1, 8, 8) for images in rows.values())


@pytest.mark.long
def test_the_pictures_are_written(model_file, tmp_path):
    cpu = torch.device("cpu")
    paths = make_variants.draw(load_model(model_file, cpu), pictures(), tmp_path, cpu)
    assert [path.name for path in paths] == ["schedules.png", "forward.png", "samplers.png"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 100
