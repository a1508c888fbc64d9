"""Tables for papers: every arm and number of the verdict, and bold only what the verdict shows."""

import re
from pathlib import Path

import pytest
import yaml

from ddpm.referee import metrics
from ddpm.report import paper
from tests.command import run
from tests.scored import params, record, result

BY = ("compare", "--by", "diffusion.schedule.name")
EYES = ("panel.c2st", "panel.classifier")
RECALL = "classifier.recall"
COPIES = {"share": 0.5, "expected": 0.05, "limit": 0.1, "ratio": 10.0}


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params()))


def arms(also: dict[str, dict[str, float]] | None = None, **levels: float) -> None:
    """A record of each schedule and seed, whose panel scores that on average; in recall all are alike. also: more
    scores of a schedule."""
    record(Path(), [
        result(schedule, seed, scores={
            metrics.PANEL: level + seed / 100 + seed * (at + 2) % 5 / 1000, RECALL: 0.8 + seed / 100
        } | (also or {}).get(schedule, {}) | {eye: level * place + seed / 100 for place, eye in enumerate(EYES, 1)})
        for at, (schedule, level) in enumerate(levels.items()) for seed in range(6)
    ])  # fmt: skip


def bold(path: str) -> list[tuple[str, str]]:
    """The arms and numbers in bold."""
    lines = Path(path).read_text().splitlines()
    return [(line.split()[0], number) for line in lines for number in re.findall(r"\\mathbf\{([^}]*)\}", line)]


def test_numbers_of_a_metric_have_the_decimals_that_its_narrowest_interval_or_its_means_deserve():
    arms(cosine=0.5, linear=0.7)
    run(*BY, "--table", "t.tex")
    rows = [line.split(" & ") for line in Path("t.tex").read_text().splitlines() if line[:2] in ("co", "li")]
    decimals = [[len(part) for part in re.findall(r"\.(\d+)", " ".join(row))] for row in rows]
    assert decimals == [[4, 3, 3, 2], [4, 4, 4, 4, 3, 3, 2]]


def test_before_there_is_an_interval_a_table_has_means():
    assert paper._decimals([{"fd": 0.5}, {"fd": 0.7, "fd low": None, "fd high": None}], "fd") == 3


def test_the_caption_tells_what_overrides_a_verdict():
    copies = {f"memorisation.pixels.{field}": value for field, value in COPIES.items()}
    arms({"linear": copies}, cosine=0.5, linear=0.4)
    run(*BY, "--table", "t.tex")
    (caption,) = [line for line in Path("t.tex").read_text().splitlines() if line.startswith(r"\caption")]
    assert ". No verdict: linear copies train images" in caption
    assert "cosine or linear" in caption


@pytest.mark.parametrize(("levels", "best"), [
    ({"cosine": 0.5, "linear": 0.4, "sigmoid": 0.55}, "linear"),
    ({"cosine": 0.5, "linear": 0.45, "sigmoid": 0.4}, "sigmoid"),
    ({"cosine": 0.4, "linear": 0.5, "sigmoid": 0.6}, "cosine"),  # of the baseline, all others are worse
    ({"cosine": 0.4, "linear": 0.4, "sigmoid": 0.6}, ""),
    ({"cosine": 0.4, "linear": 0.3995}, ""),  # the best mean, by less than matters
])  # fmt: skip
def test_the_best_is_bold_only_if_the_verdict_calls_it_better(levels, best):
    arms(**levels)
    assert run(*BY, "--table", "t.tex") == 0
    assert [arm for arm, _ in bold("t.tex")] == ([best] if best else [])


@pytest.mark.parametrize(("value", "text"), [
    (1.5e-7, r"$1.5 \times 10^{-7}$"), (-2e8, r"$-2 \times 10^{8}$"), (0.123456, "$0.1235$"), (6, "6"), (None, ""),
    ("a_b", r"a\_b"), ("[x] 5%", r"{[}x] 5\%"), ("*", "{*}"), ("\\x{$}", r"\textbackslash{}x\{\$\}"),
    ("a\nb", "a b"), ("~^<|>&#", r"\textasciitilde{}\textasciicircum{}\textless{}\textbar{}\textgreater{}\&\#"),
])  # fmt: skip
def test_a_cell_is_shown_by_latex_as_it_is(value, text):
    assert paper._cell(value) == text
