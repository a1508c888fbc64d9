"""docs/atlas.md is made from the verdicts, and is current; and other tables that are made from records."""

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image, ImageColor

from ddpm.pictures import plots
from ddpm.runs import library
from docs import make_atlas, make_claims, make_search

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
        "averages", "claims_decay_mnist", "claims_shift_mnist_32", "classes", "flowers_schedule", "schedule",
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


def test_every_page_says_what_papers_claim_and_what_its_studies_do_not_show():
    for path in make_atlas.PAGE.parent.glob("atlas-*.md"):
        headings = path.read_text().split("\n## ")
        sections = [heading.partition("\n\n")[2] for name in ("What papers say", "Limits") for heading in headings
                    if heading.startswith(f"{name}\n")]  # fmt: skip
        assert len(sections) == 2, path.name
        assert "arXiv:" in sections[0], path.name


def test_the_lead_of_x0_ends_where_the_claims_say():
    """docs/claims.md: on digits between 8 and 16 channels for each value of a patch, on MNIST later."""
    digits, mnist = (
        [make_claims.measure_lead(f"size_{data}_{width}") for width in (32, 64)] for data in ("digits", "mnist")
    )
    assert digits[0] > 1 > digits[1]
    assert min(mnist) > 1


def test_one_pair_of_methods_changes_its_order_with_the_average_of_the_weights():
    """docs/claims.md: 14 of 15 keep it, on digits as on MNIST."""
    arms = "epsilon", "flow", "min_snr", "muon", "v", "x0"
    for short, long in (
        ("ema_short/{}", "ema_long/{}"),
        ("ema_mnist/{}_short", "ema_mnist/{}_long"),
    ):
        means = []
        for study, arm in (of.split("/") for of in (short, long)):
            runs = library.folder(Path(f"metrics/studies/claims_{study}")).records
            names = [f"claims_{study}-{arm.format(one)}" for one in arms]
            of_arms = ([run for run in runs if run.name.rpartition("-")[0] == name] for name in names)
            means.append([fmean(run.scores["classifier.fd"] for run in of_arm) for of_arm in of_arms])
        signs = [np.sign(np.subtract.outer(row, row)) for row in means]
        assert (signs[0] != signs[1]).sum() / 2 == 1
    assert "arms keep their order, as on [MNIST]" in Path("docs/claims.md").read_text()


@pytest.mark.long
def test_the_table_of_samplers_is_simulated_on_what_is_recorded():
    row = make_search.main("tpe_mv/5/warm/4", 2, 30)
    best, *_ = row["30/3"]
    assert 0.5 < best < 6  # the base scores 15
    assert row == make_search.main("tpe_mv/5/warm/4", 2, 30)
