"""What scores notice of damage to real images: how it is measured and shown."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ddpm.base.errors import UserError
from ddpm.params import config
from ddpm.scoring.evaluate_params import Evaluate
from examples import sanity

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=10, kid_subset_size=100)
DIGITS = config.load(ROOT / "ddpm/presets/digits_2026.yaml")


def test_spoiling_keeps_the_mean_and_does_more_at_a_higher_level(held_out):
    images = held_out[:50] // 2 + 64  # away from the ends, where noise is cut off
    for spoil, levels in ((sanity.blur, (1 / 32, 1 / 16, 1 / 8)), (sanity.add_noise, (1 / 16, 1 / 8, 1 / 4))):
        changes = [np.abs(spoil(images, level).astype(int) - images).mean() for level in levels]
        assert all(a < b for a, b in pairwise([0.5, *changes]))
    assert sanity.blur(images, 1 / 16).mean() == pytest.approx(images.mean(), abs=2)
    noise = sanity.add_noise(images, 1 / 16).astype(float) - images
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(255 / 16, rel=0.05)


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1), st.booleans())
def test_worse_is_the_share_of_pairs(damaged, whole, lower):
    expected = np.mean([0.5 if a == b else float((a > b) == lower) for a in damaged for b in whole])
    assert sanity.worse(np.array(damaged, float), np.array(whole, float), lower) == pytest.approx(expected)


def test_a_share_of_pairs_in_words():
    assert [sanity.verdict(share) for share in (0.9, 0.7, 0.5, 0.05)] == ["sees", "partly", "blind", "misled"]


def test_the_script_prints_a_table_and_draws_the_damages(digits, classifier_reference, folder, capsys):
    Path("data").mkdir()
    Path("data/processed").symlink_to(digits)
    shutil.copytree(classifier_reference, "data/reference")
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"data": DIGITS.data.model_dump(mode="json")}
    chosen["evaluate"] |= {"metrics": ["prc"], "extractors": ["classifier"]}
    Path("params.yaml").write_text(yaml.safe_dump(chosen))
    index = json.loads(Path("data/reference/reference.json").read_text())
    with pytest.raises(UserError, match="data/reference: "):  # made with other metrics
        sanity.main([])
    right = {"config": config.load().evaluate.reference_identity()}
    Path("data/reference/reference.json").write_text(json.dumps(index | right))
    sanity.main(["--out", "shown.png"])
    lines = capsys.readouterr().out.splitlines()
    assert ["classifier.precision", "classifier.recall"] in [line.split() for line in lines]
    assert [line.split()[2] for line in lines if line.startswith("pure noise")] == ["sees"]
    assert min(Image.open("shown.png").size) > 100
