"""docs/atlas.md is made from the verdicts, and is current; and other tables that are made from records."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from ddpm.pictures import plots
from docs import make_atlas

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def rows() -> list[make_atlas.Row]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return make_atlas.rows(make_atlas.read())


@pytest.mark.slow
def test_the_page_is_current(tmp_path):
    page = make_atlas.page(make_atlas.read(), tmp_path)
    assert make_atlas.PAGE.read_text() == page, "run `python -m docs.make_atlas`"
    with Image.open(tmp_path / "atlas.png") as picture:
        colours = np.array([colour for _, colour in picture.convert("RGB").getcolors()])
    for name, colour in plots.OUTCOMES.items():
        if f"| **{name}** " in page:  # a palette has the means of colours that are alike
            assert abs(colours - ImageColor.getrgb(colour)).max(axis=1).min() < 16, name


def test_what_stands_together_is_what_benjamini_and_yekutieli_let_stand(rows):
    """Their step-up procedure, written out: theorem 1.3 of the paper."""
    p = sorted(row.p for row in rows)
    count, harmonic = len(p), sum(1 / k for k in range(1, len(p) + 1))
    limit = max(p[k - 1] for k in range(1, count + 1) if p[k - 1] <= k * make_atlas.RATE / (count * harmonic))
    assert all(row.stands == (row.p <= limit) for row in rows if row.stands is not None)
    assert {row.verdict["outcome"] for row in rows if row.stands is not None} == {"better", "worse"}
    fragile = [row for row in rows if row.stands is False]
    assert [row.study for row in fragile] == [
        "averages", "claims_decay_mnist", "claims_shift_mnist_32", "classes", "find_digits", "flowers_schedule",
    ]  # fmt: skip
    page = make_atlas.PAGE.read_text()
    assert all(
        f"| {row.verdict['arm']} | {row.outcome} {row.effect} |" in page and row.outcome.endswith(" *")
        for row in fragile
        if not row.study.startswith(make_atlas.ELSEWHERE)
    )


def test_the_recipe_knows_how_many_verdicts_stand(rows):
    decided = [row for row in rows if row.stands is not None]
    standing = sum(row.stands is True for row in decided)
    assert f"[{standing} of {len(decided)} stand]" in " ".join(Path("docs/recipe.md").read_text().split())


def test_every_study_is_discussed_on_a_page(rows):
    pages = "".join(path.read_text() for path in Path("docs").glob("*.md") if path != make_atlas.PAGE)
    assert [row.study for row in rows if f"studies/{row.study}/verdict.md" not in pages] == []
