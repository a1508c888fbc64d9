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
from examples.sanity import FEWER, STATIC, Sanity

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=10, kid_subset_size=100)
DIGITS = config.load(ROOT / "ddpm/presets/digits_2026.yaml")


@pytest.fixture(scope="module")
def found(digits, classifier_reference) -> Sanity:
    return sanity.measure(SETTINGS, 1437, digits, classifier_reference, CPU, 100)


def test_spoiling_keeps_the_mean_and_does_more_at_a_higher_level(held_out):
    images = held_out[:50] // 2 + 64  # away from the ends, where noise is cut off
    for spoil, levels in ((sanity.blur, (1 / 32, 1 / 16, 1 / 8)), (sanity.add_noise, (1 / 16, 1 / 8, 1 / 4))):
        changes = [np.abs(spoil(images, level).astype(int) - images).mean() for level in levels]
        assert all(a < b for a, b in pairwise([0.5, *changes]))
    assert sanity.blur(images, 1 / 16).mean() == pytest.approx(images.mean(), abs=2)
    noise = sanity.add_noise(images, 1 / 16).astype(float) - images
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(255 / 16, rel=0.05)


@pytest.mark.slow
def test_the_table_of_digits(found):
    assert found.images == 179  # half of the test split
    words = {name: {kind: sanity.verdict(share) for kind, share in row.items()} for name, row in found.worse.items()}
    fd, precision, recall = (words[f"classifier.{name}"] for name in ("fd", "precision", "recall"))
    assert [fd[kind] for kind in ("class left out", "class doubled", "blur", "noise")] == ["sees"] * 4
    assert all(row[STATIC] == 1 for row in found.worse.values())
    assert fd["copies of few"] == recall["copies of few"] == "sees"
    assert found.worse["classifier.fd"][FEWER] == 1  # it falls as the number of images grows
    assert precision["train copies"] == "misled"  # copies are as precise as can be
    assert precision["towards class mean"] == "misled"
    table, *_ = sanity.show(found)
    column = table.columns.index("classifier.fd")
    cells = {row[0]: row[column] for row in table.rows}
    assert cells[FEWER].startswith("moves")
    assert cells["blur"].startswith("sees")


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1), st.booleans())
def test_worse_is_the_share_of_pairs(damaged, whole, lower):
    expected = np.mean([0.5 if a == b else float((a > b) == lower) for a in damaged for b in whole])
    assert sanity.worse(np.array(damaged, float), np.array(whole, float), lower) == pytest.approx(expected)


def test_the_script_prints_a_table_and_draws_the_damages(digits, classifier_reference, folder, capsys):
    Path("data").mkdir()
    Path("data/processed").symlink_to(digits)
    shutil.copytree(classifier_reference, "data/reference")
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text()) | {"data": DIGITS.data.model_dump(mode="json")}
    chosen["evaluate"] |= {"metrics": ["prc"], "extractors": ["classifier"]}
    Path("params.yaml").write_text(yaml.safe_dump(chosen))
    index = json.loads(Path("data/reference/reference.json").read_text())
    right = {"config": config.load().evaluate.reference_identity()}
    for wrong in ({}, right | {"held_out": "0" * 64}):  # made with other metrics, or of other images
        Path("data/reference/reference.json").write_text(json.dumps(index | wrong))
        with pytest.raises(UserError, match="data/reference: "):
            sanity.main([])
    Path("data/reference/reference.json").write_text(json.dumps(index | right))
    cifar = chosen | {"data": chosen["data"] | {"dataset": {"name": "cifar100"}}}
    Path("params.yaml").write_text(yaml.safe_dump(cifar))
    with pytest.raises(UserError, match="data/processed: "):
        sanity.main([])
    Path("params.yaml").write_text(yaml.safe_dump(chosen))
    sanity.main(["--json", "--out", "shown.png"])
    assert json.loads(capsys.readouterr().out)["worse"].keys() == {"classifier.precision", "classifier.recall"}
    assert min(Image.open("shown.png").size) > 100
