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
from ddpm.data.processed import open_split
from ddpm.params import config
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import extract
from ddpm.scoring.frechet import Distance
from ddpm.scoring.reference import load_features
from examples import sanity
from examples.sanity import FEWER, STATIC, WHOLE, Sanity

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


def test_an_image_has_its_own_noise(held_out, monkeypatch):
    whole = sanity.add_noise(held_out[:9], 0.1)
    monkeypatch.setattr(sanity, "NOISE_BATCH", 4)
    np.testing.assert_array_equal(sanity.add_noise(held_out[:9], 0.1), whole)


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


@pytest.mark.slow
def test_fresh_opponents_see_what_moves_towards_the_mean_and_no_copies(digits, classifier_reference, monkeypatch):
    monkeypatch.setattr(sanity, "SETS", 2)
    settings = Evaluate(extractors=("classifier",), metrics=("prc", "c2st"), c2st={"images": 700, "steps": 80})
    worse = sanity.measure(settings, 1437, digits, classifier_reference, CPU, 0).worse["c2st.auc"]
    assert sanity.verdict(worse["towards class mean"]) == sanity.verdict(worse["blur"]) == "sees"
    assert sanity.verdict(worse["train copies"]) != "sees"


def test_noise_images_are_fitted_to_the_distance_alone(classifier_reference, held_out):
    real = load_features(classifier_reference, "classifier", CPU)
    start = np.random.default_rng(0).integers(0, 256, (150, 1, 16, 16), dtype=np.uint8)
    distance = Distance(real.mu, real.sigma, CPU)
    before, after = (distance(extract(real.network, each, 64, CPU).features) for each in
                     (start, sanity.fit_noise(real, start, 40)))  # fmt: skip
    assert after < before / 3


def test_a_note_names_the_damage_to_which_a_score_is_blind_though_it_should_see_it():
    kinds = ("class left out", "class doubled", "blur", "noise", STATIC, "JPEG")
    row = {**dict.fromkeys(kinds, 0.71), "blur": 0.69, "JPEG": 0.1}  # JPEG is no part of what it should see
    shares = {"classifier.fd": row, "bits_per_dim": {}}
    _, *notes = sanity.show(Sanity(9, dict.fromkeys(shares, 1.0), shares))
    assert [note.text.partition("classifier.fd")[2].rpartition(": ")[2] for note in notes] == ["blur"]


def test_sets_leave_a_class_out_and_double_one(digits):
    labels = open_split(digits, "test")[1]
    sets = list(sanity.draw_sets(labels, 150, 300))
    kinds = (WHOLE, "class left out", "class doubled", "train copies", FEWER, "copies of few")
    by_damage = {kind: [one for one in sets if one.damage == kind] for kind in kinds}
    assert [len(drawn) for drawn in by_damage.values()] == [sanity.SETS] * 6
    assert len(sets) == 6 * sanity.SETS
    for number, (whole, dropped, doubled, copies, fewer, few) in enumerate(zip(*by_damage.values(), strict=True)):
        one = number % 10
        sizes = [len(each.rows) for each in (whole, dropped, doubled, copies, fewer)]
        assert sizes == [150, 150, 150, 150, 75]
        assert np.count_nonzero(labels[dropped.rows] == one) == 0
        share = np.count_nonzero(labels[whole.rows] == one)
        assert np.count_nonzero(labels[doubled.rows] == one) == 2 * share
        assert np.count_nonzero(copies.rows >= len(labels)) == 75
        assert all(len(set(each.rows)) == len(each.rows) for each in (whole, dropped, copies, fewer))
        assert (len(few.rows), len(set(few.rows))) == (150, 21)
        assert few.rows.min() >= len(labels)  # train images


def test_images_of_one_class_have_none_to_leave_out():
    damages = {one.damage for one in sanity.draw_sets(np.zeros(40, np.int64), 20, 30)}
    assert damages == {WHOLE, FEWER, "train copies", "copies of few"}


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1), st.booleans())
def test_worse_is_the_share_of_pairs(damaged, whole, lower):
    expected = np.mean([0.5 if a == b else float((a > b) == lower) for a in damaged for b in whole])
    assert sanity.worse(np.array(damaged, float), np.array(whole, float), lower) == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_damage_keeps_the_shape_and_changes_each_image(channels):
    images = np.random.default_rng(0).integers(0, 255, (5, channels, 12, 20), dtype=np.uint8)
    spoiled = sanity.spoil(images, np.zeros(5, np.int64))
    kinds = {"blur", "smoothed", "noise", STATIC, "towards class mean", "JPEG"}
    assert spoiled.keys() == (kinds - {"JPEG"} if channels == 2 else kinds)
    for found in spoiled.values():
        assert (found.shape, found.dtype) == (images.shape, np.uint8)
        assert (found != images).any((1, 2, 3)).all()


def test_too_few_images_are_refused(digits, classifier_reference, tmp_path):
    few = tmp_path / "processed"
    for split, count in (("train", 60), ("test", 19)):
        (few / split).mkdir(parents=True)
        for name in ("images", "labels"):
            np.save(few / split / f"{name}.npy", np.load(digits / split / f"{name}.npy")[:count])
    with pytest.raises(UserError, match="data/processed/test: 19 "):
        sanity.measure(SETTINGS, 100, few, classifier_reference, CPU)
    large = SETTINGS.model_copy(update={"metrics": ("kid",), "kid_subset_size": 1000})
    with pytest.raises(UserError, match=r"179 of its 359 images"):
        sanity.measure(large, 1437, digits, classifier_reference, CPU, 0)


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
