"""What scores notice of damage to real images: how it is measured, and what verdicts make of it."""

import io
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
from ddpm.report import noticed
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.metric import DAMAGE, HARMLESS
from ddpm.tools import damage
from ddpm.verdicts import sensitivity as sanity
from ddpm.verdicts.sensitivity import PATH, Sanity, Sensitivity
from tests.command import run
from tests.scored import params

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
STATIC = "pure noise in place of images"
SETTINGS = Evaluate(extractors=("classifier",), kid_subsets=10, kid_subset_size=100)
DIGITS = config.load(ROOT / "ddpm/presets/digits_2026.yaml")


@pytest.fixture(scope="module")
def found(digits, classifier_reference) -> Sanity:
    return damage.measure(SETTINGS, DIGITS.data, 1437, digits, classifier_reference, CPU)


def test_spoiling_keeps_the_mean_and_does_more_at_a_higher_level(held_out):
    images = held_out[:50] // 2 + 64  # away from the ends, where noise is cut off
    for spoil, levels in ((damage.blur, (1 / 32, 1 / 16, 1 / 8)), (damage.add_noise, (1 / 16, 1 / 8, 1 / 4))):
        changes = [np.abs(spoil(images, level).astype(int) - images).mean() for level in levels]
        assert all(a < b for a, b in pairwise([0.5, *changes]))
    assert damage.blur(images, 1 / 16).mean() == pytest.approx(images.mean(), abs=2)
    noise = damage.add_noise(images, 1 / 16).astype(float) - images
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(255 / 16, rel=0.05)


def test_an_image_has_its_own_noise(held_out, monkeypatch):
    whole = damage.add_noise(held_out[:9], 0.1)
    monkeypatch.setattr(damage, "NOISE_BATCH", 4)
    np.testing.assert_array_equal(damage.add_noise(held_out[:9], 0.1), whole)


def test_the_table_of_digits(found):
    assert (found.images, found.sets) == (179, 8)  # half of the test split
    words = {name: {kind: noticed.verdict(worse) for kind, worse in row.noticed.items()}
             for name, row in found.scores.items()}  # fmt: skip
    assert [words["classifier.fd"][kind] for kind in ("dropped", "doubled", "blur", "noise")] == ["sees"] * 4
    assert all(row.noticed["static"] == 1 for row in found.scores.values())
    assert found.scores["classifier.fd"].noticed[HARMLESS] == 1  # it falls as the number of images grows
    assert words["classifier.precision"]["copies"] == "misled"  # copies are as precise as can be
    table, *_ = noticed.show_sanity(found)
    row = next(row for row in table.rows if row[0] == "classifier.fd")
    assert row[-1].startswith("moves")
    assert row[2].startswith("sees")


def test_sets_leave_a_class_out_and_double_one(digits):
    labels = open_split(digits, "test")[1]
    sets = list(damage.draw_sets(labels, 150, 300))
    kinds = ("", "dropped", "doubled", "copies", HARMLESS)
    by_damage = {kind: [one for one in sets if one.damage == kind] for kind in kinds}
    assert [len(drawn) for drawn in by_damage.values()] == [damage.SETS] * 5
    assert len(sets) == 5 * damage.SETS
    for number, (whole, dropped, doubled, copies, fewer) in enumerate(zip(*by_damage.values(), strict=True)):
        one = number % 10
        sizes = [len(each.rows) for each in (whole, dropped, doubled, copies, fewer)]
        assert sizes == [150, 150, 150, 150, 75]
        assert np.count_nonzero(labels[dropped.rows] == one) == 0
        share = np.count_nonzero(labels[whole.rows] == one)
        assert np.count_nonzero(labels[doubled.rows] == one) == 2 * share
        assert np.count_nonzero(copies.rows >= len(labels)) == 75
        assert all(len(set(each.rows)) == len(each.rows) for each in (whole, dropped, copies, fewer))


def test_images_of_one_class_have_none_to_leave_out():
    damages = {one.damage for one in damage.draw_sets(np.zeros(40, np.int64), 20, 30)}
    assert damages == {"", HARMLESS, "copies"}


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1), st.booleans())
def test_worse_is_the_share_of_pairs(damaged, whole, lower):
    expected = np.mean([0.5 if a == b else float((a > b) == lower) for a in damaged for b in whole])
    assert damage.worse(np.array(damaged, float), np.array(whole, float), lower) == pytest.approx(expected)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_damage_keeps_the_shape_and_changes_each_image(channels):
    images = np.random.default_rng(0).integers(0, 255, (5, channels, 12, 20), dtype=np.uint8)
    spoiled = {kind: spoil(images) for kind, spoil in damage.possible_damage(images).items()}
    assert spoiled.keys() == {"blur", "noise", "static"} | ({"jpeg"} if channels != 2 else set())
    for found in spoiled.values():
        assert (found.shape, found.dtype) == (images.shape, np.uint8)
        assert (found != images).any((1, 2, 3)).all()


def test_too_few_images_are_refused(digits, classifier_reference):
    with pytest.raises(UserError, match="data/processed/test: 19 "):
        damage.sizes(19, 100)
    large = SETTINGS.model_copy(update={"metrics": ("kid",), "kid_subset_size": 1000})
    with pytest.raises(UserError, match=r"179 of its 359 images"):
        damage.measure(large, DIGITS.data, 1437, digits, classifier_reference, CPU)


def made(worse: float, chosen=DIGITS, images: int = 179) -> Sanity:
    row = Sensitivity(whole=1.0, noticed=dict.fromkeys(DAMAGE, worse))
    data = sanity.data_params(chosen.data)
    return Sanity(
        images=images, samples=1437, sets=8, data=data, scores={"classifier.fd": row, "classifier.is_mean": row}
    )


def drawing(count: int):
    return DIGITS.model_copy(update={"sample": DIGITS.sample.model_copy(update={"count": count})})


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "sanity.json"


@pytest.mark.parametrize(
    ("worse", "score", "expected"),
    [
        # JPEG and copies are no part of what it should see
        (0.5, "classifier.fd", f"one class left out; one class twice as often; blur; noise; {STATIC}"),
        (0.71, "classifier.fd", ""),
        (0.5, "classifier.is_mean", f"one class left out; noise; {STATIC}"),
        (0.5, "classifier.recall", ""),
        (0.5, "bits_per_dim", ""),
    ],
)
def test_a_verdict_says_when_its_primary_metric_is_blind_to_what_it_should_see(path, worse, score, expected):
    path.write_text(made(worse).model_dump_json())
    said = sanity.warnings(score, drawing(1437), path)
    assert [line.rpartition(": ")[2] for line in said] == [expected] * bool(expected)


def test_a_table_of_other_data_or_none_says_nothing_about_these(path):
    assert sanity.warnings("classifier.fd", DIGITS, path) == []
    for change in ({"data__test_fraction": 0.3}, {"data__source": "downloads"}):
        path.write_text(made(0.5, config.parse(params(**change), "test")).model_dump_json())
        assert sanity.warnings("classifier.fd", drawing(1437), path) == []
    path.write_text(made(0.5).model_dump_json())
    assert sanity.warnings("classifier.fd", drawing(1000), path) == []  # sets of another size show something else
    secret = config.parse(params(data__source="https://me:secret@example.org/x.zip"), "test")
    assert "secret" not in json.dumps(sanity.data_params(secret.data))
    path.write_text('{"images": -1}')
    with pytest.raises(UserError, match=r"is not allowed: .*`ddpm sanity`"):
        sanity.read(path)


def test_the_command_writes_a_table_and_the_report_shows_it(digits, classifier_reference, folder, capsys):
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
        assert run("sanity") == 2
        assert "data/reference: " in capsys.readouterr().err
    Path("data/reference/reference.json").write_text(json.dumps(index | right))
    cifar = chosen | {"data": chosen["data"] | {"dataset": {"name": "cifar100"}}}
    Path("params.yaml").write_text(yaml.safe_dump(cifar))
    assert run("sanity") == 2
    assert "data/processed: " in capsys.readouterr().err
    Path("params.yaml").write_text(yaml.safe_dump(chosen))
    assert run("sanity") == 0
    out = capsys.readouterr().out
    assert "metrics/sanity.json, metrics/sanity.png" in out
    assert sanity.read(PATH).scores.keys() == {"classifier.precision", "classifier.recall"}
    table, *_, figure = noticed.show_sanity(sanity.read(PATH))
    assert len(table.rows) == 2
    with Image.open(PATH.with_suffix(".png")) as written, Image.open(io.BytesIO(figure.png())) as shown:
        assert shown.size == written.size
