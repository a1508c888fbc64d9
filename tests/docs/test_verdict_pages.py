"""Pages that rest on verdicts: each figure of docs/claims.md is that of its study, from the scores of its seeds, and
docs/atlas.md is made from all, and is current."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image, ImageColor

from ddpm.base import files
from ddpm.pictures import plots
from docs import make_atlas
from docs.atlas_text import percent

ROOT = Path(__file__).parents[2]
PAGE, STUDIES = ROOT / "docs/claims.md", ROOT / "metrics/studies"
STUDY = re.compile(r"\]\(\.\./metrics/studies/(\w+)/verdict\.md\)")
FIGURE = re.compile(r"(\w+) (\*\*)?([+-][\d.]+%)(?:\*\*)? \(([+-]\d+)\.\.([+-]\d+)(?:; (\d) of (\d) eyes)?\)")
EYES = re.compile(r"\w+\.fd|c2st\.auc")


def figures() -> list[tuple[str, ...]]:
    """The study, arm, mark, difference, ends of the interval, and eyes that agree, of every figure on the page."""
    page = " ".join(PAGE.read_text().split())
    _, *parts = STUDY.split(page)
    texts = zip(parts[::2], parts[1::2], strict=True)
    return [(study, *figure) for study, text in texts for figure in FIGURE.findall(text)]


def read(study: str, arm: str) -> tuple[str, dict[str, dict]]:
    """The primary metric, and the arm's verdicts by metric."""
    judged = files.read_json(STUDIES / study / "verdict.json")
    return judged["primary"], {one["metric"]: one for one in judged["verdicts"] if one["arm"] == arm}


def relative(verdict: dict) -> float:
    return fmean(verdict["arm_scores"]) / fmean(verdict["baseline_scores"]) - 1


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: "-".join(figure[:2]))
def test_a_figure_is_that_of_the_seeds_of_its_study(figure):
    study, arm, bold, difference, low, high, agree, eyes = figure
    primary, of_arm = read(study, arm)
    verdict = of_arm[primary]
    assert percent(relative(verdict)) == difference
    ends = [f"{100 * verdict[end] / fmean(verdict['baseline_scores']):+.0f}" for end in ("low", "high")]
    assert ends == [low, high]
    assert (verdict["outcome"] in {"better", "worse"}) == bool(bold)
    if bold and primary.startswith("panel"):
        signs = [relative(one) * relative(verdict) > 0 for name, one in of_arm.items() if EYES.fullmatch(name)]
        assert (agree, eyes) == (str(sum(signs)), str(len(signs)))


def test_every_study_of_a_claim_is_on_the_page():
    named = set(STUDY.findall(PAGE.read_text()))
    assert {path.parent.name for path in STUDIES.glob("claims_*/verdict.json")} <= named


@pytest.mark.parametrize(("arms", "studies"), [
    ("linear v logit_normal adamw", "central_digits central_mnist"), ("linear sigmoid", "schedule schedule_mnist"),
    ("flow_blind", "claims_blind claims_blind_mnist"), ("rescale_05", "claims_rescale_flow claims_rescale_mnist"),
])  # fmt: skip
def test_what_stands_on_two_data_sets_does_in_every_eye(arms, studies):
    for arm in arms.split():
        outcomes, signs = set(), set()
        for study in studies.split():
            _, of_arm = read(study, arm)
            outcomes.add(of_arm["panel.score"]["outcome"])
            signs |= {relative(one) > 0 for name, one in of_arm.items() if EYES.fullmatch(name)}
        assert (len(outcomes), len(signs)) == (1, 1)
        assert outcomes <= {"better", "worse"}


@pytest.fixture(scope="module", autouse=True)
def rows() -> Iterator[list[make_atlas.Row]]:
    with contextlib.chdir(ROOT):
        yield make_atlas.rows(make_atlas.read())


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


def test_the_recipe_knows_how_many_verdicts_stand(rows):
    decided = [row for row in rows if row.stands is not None]
    standing = sum(row.stands is True for row in decided)
    assert f"[{standing} of {len(decided)} stand]" in " ".join(Path("docs/recipe.md").read_text().split())


def test_every_study_is_discussed_on_a_page(rows):
    pages = "".join(path.read_text() for path in Path("docs").glob("*.md") if path != make_atlas.PAGE)
    assert [row.study for row in rows if f"studies/{row.study}/verdict.md" not in pages] == []
