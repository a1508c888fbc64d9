"""docs/atlas.md is made from the verdicts, and is current."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor
from scipy import stats

from ddpm.model import build
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


def test_the_page_is_current(tmp_path):
    page = make_atlas.page(make_atlas.read(), tmp_path)
    assert make_atlas.PAGE.read_text() == page, "run `python -m docs.make_atlas`"
    with Image.open(tmp_path / "atlas.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors()}
    assert {ImageColor.getrgb(colour) for name, colour in plots.OUTCOMES.items() if f"| **{name}** " in page} <= colours


def test_what_stands_together_is_what_benjamini_and_yekutieli_let_stand(rows):
    """Their step-up procedure, written out: theorem 1.3 of the paper."""
    p = sorted(row.p for row in rows)
    count, harmonic = len(p), sum(1 / k for k in range(1, len(p) + 1))
    limit = max(p[k - 1] for k in range(1, count + 1) if p[k - 1] <= k * make_atlas.RATE / (count * harmonic))
    assert all(row.stands == (row.p <= limit) for row in rows if row.stands is not None)
    assert {row.verdict["outcome"] for row in rows if row.stands is not None} == {"better", "worse"}
    fragile = [row for row in rows if row.stands is False]
    assert [row.study for row in fragile] == ["classes", "flowers_schedule", "schedule"]
    page = make_atlas.PAGE.read_text()
    assert all(
        f"| {row.verdict['arm']} | {row.outcome} {row.effect} |" in page and row.outcome.endswith(" *")
        for row in fragile
    )


def test_the_stored_differences_look_normal(rows):
    """What the 5% of a study rest on: tails are neither light, as of uniform differences, nor heavy."""
    gaps = [make_atlas.differences(row.verdict) for row in rows]
    gaps = [gap for gap in gaps if len(gap) >= 8 and gap.std() > 0]
    assert len(gaps) > 90
    odd = sum(stats.shapiro(gap).pvalue < 0.05 for gap in gaps)
    assert stats.binomtest(odd, len(gaps), 0.05).pvalue > 0.05
    tails = np.array([stats.kurtosis(gap, bias=False) for gap in gaps])
    assert abs(tails.mean()) < 2 * tails.std() / len(gaps) ** 0.5
    assert make_atlas.sign_flip_p(np.arange(1.0, 9)) == 2 / 2**8


def test_the_first_example_is_a_verdict_that_stands(rows):
    example = Path("README.md").read_text().partition("\n> ")[2].partition("\n\n")[0]
    named = [row for row in rows if row.study == "schedule" and f"the {row.verdict['arm']} schedule" in example]
    assert [(row.verdict["arm"], row.stands) for row in named] == [("linear", True)]


def test_the_recipe_knows_how_many_verdicts_stand(rows):
    decided = [row for row in rows if row.stands is not None]
    standing = sum(row.stands is True for row in decided)
    assert f"[{standing} of {len(decided)} stand]" in " ".join(Path("docs/recipe.md").read_text().split())


def test_a_likelihood_that_a_uniform_guess_has_is_called_useless(rows):
    useless = {(row.study, row.verdict["arm"]) for row in rows if row.cells()[-1].endswith(": useless")}
    worse = {(row.study, row.verdict["arm"]) for row in rows if row.likelihood and row.likelihood["arm_mean"] >= 8}
    assert useless == worse
    assert {("parameterization", "x0"), ("flowers_targets", "x0")} <= useless


def test_equal_params_and_seeds_are_one_training():
    text = " ".join(make_atlas.shared().text.split())
    records, trainings = map(int, re.search(r"(\d+) published records come from (\d+) trainings", text).groups())
    assert records == len(list(Path("metrics/studies").glob("*/runs/*.json"))) > trainings
    groups = [group.split(", ") for group in text.partition("evidence: ")[2].rstrip(".").split("; ")]
    assert ["averages", "losses", "samplers", "timesteps"] in groups  # five samplers draw from each model of averages
    assert not any("targets" in group for group in groups)


def test_every_study_is_discussed_on_a_page(rows):
    pages = "".join(path.read_text() for path in make_atlas.PAGE.parent.glob("atlas-*.md"))
    assert [row.study for row in rows if f"studies/{row.study}/verdict.md" not in pages] == []


def test_every_verdict_is_that_of_its_study(rows):
    for row in rows:
        lines = Path(f"metrics/studies/{row.study}/verdict.md").read_text().splitlines()
        arm, decided = row.verdict["arm"], row.verdict["outcome"] in plots.OUTCOMES
        line = next(line for line in lines if line.startswith(f"- {arm} is "))
        if row.verdict["outcome"] == "too early":
            assert "a Gaussian" in line
            assert row.outcome == "**too early**"
            continue
        assert (
            f"{make_atlas.share(row.verdict).lstrip('+-')} {'higher' if row.verdict['relative'] > 0 else 'lower'}"
            in line
        )
        assert f"{row.effect.partition('(')[2][:-1].replace('/', ' of ')} seeds" in line
        assert (f"{arm} is {row.outcome.split('*')[2]}:" in line) if decided else row.outcome == make_atlas.OPEN


def test_every_page_says_what_papers_claim_and_what_its_studies_do_not_show():
    for path in make_atlas.PAGE.parent.glob("atlas-*.md"):
        headings = path.read_text().split("\n## ")
        sections = [heading.partition("\n\n")[2] for name in ("What papers say", "Limits") for heading in headings
                    if heading.startswith(f"{name}\n")]  # fmt: skip
        assert len(sections) == 2, path.name
        assert "arXiv:" in sections[0], path.name


def test_what_the_page_says_of_all_studies_holds(rows):
    assert {row.data for row in rows} == {
        "digits 16x16",
        "mnist 16x16",
        "mnist 28x28",
        "flowers 32x32",
        "sunflowers 32x32",
    }
    parameters = {build.parameters(row.arm) for row in rows}
    assert (min(parameters) // 10**4, max(parameters) // 10**5) == (16, 26)
    images = {(side.train.steps or 0) * side.train.batch_size for row in rows for side in (row.arm, row.baseline)}
    assert (min(images), max(images)) == (10_240, 301_696)
