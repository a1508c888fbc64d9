"""docs/claims.md: each figure is that of its study, from the scores of its seeds, and what it concludes from others."""

import re
from pathlib import Path
from statistics import fmean

import pytest

from ddpm.base import files
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
    return [
        (study, *figure) for study, text in zip(parts[::2], parts[1::2], strict=True) for figure in FIGURE.findall(text)
    ]


def relative(verdict: dict) -> float:
    return fmean(verdict["arm_scores"]) / fmean(verdict["baseline_scores"]) - 1


@pytest.mark.parametrize("figure", figures(), ids=lambda figure: "-".join(figure[:2]))
def test_a_figure_is_that_of_the_seeds_of_its_study(figure):
    study, arm, bold, difference, low, high, agree, eyes = figure
    judged = files.read_json(STUDIES / study / "verdict.json")
    of_arm = [one for one in judged["verdicts"] if one["arm"] == arm]
    verdict = next(one for one in of_arm if one["metric"] == judged["primary"])
    assert percent(relative(verdict)) == difference
    ends = [f"{100 * verdict[end] / fmean(verdict['baseline_scores']):+.0f}" for end in ("low", "high")]
    assert ends == [low, high]
    assert (verdict["outcome"] in {"better", "worse"}) == bool(bold)
    if bold and judged["primary"].startswith("panel"):
        signs = [relative(one) * relative(verdict) > 0 for one in of_arm if EYES.fullmatch(one["metric"])]
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
            judged = files.read_json(STUDIES / study / "verdict.json")
            of_arm = {one["metric"]: one for one in judged["verdicts"] if one["arm"] == arm}
            outcomes.add(of_arm["panel.score"]["outcome"])
            signs |= {relative(one) > 0 for name, one in of_arm.items() if EYES.fullmatch(name)}
        assert (len(outcomes), len(signs)) == (1, 1)
        assert outcomes <= {"better", "worse"}
