"""Tables for papers: every arm and number of the verdict, and bold only what the verdict shows."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.params.config import Compare
from ddpm.referee import metrics
from ddpm.report import paper
from ddpm.verdicts.result import Judgement
from tests.command import refused, run
from tests.scored import params, record, result

BY = ("compare", "--by", "diffusion.schedule.name")
EYES = ("panel.c2st", "panel.classifier")
RECALL = "classifier.recall"


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params()))


def arms(**levels: float) -> None:
    """A record of each schedule and seed, whose panel scores that on average; in recall all are alike."""
    record(Path(), [
        result(schedule, seed, scores={
            metrics.PANEL: level + seed / 100 + seed * (at + 2) % 5 / 1000, RECALL: 0.8 + seed / 100
        } | {eye: level * place + seed / 100 for place, eye in enumerate(EYES, 1)})
        for at, (schedule, level) in enumerate(levels.items()) for seed in range(6)
    ])  # fmt: skip


def read(path: str) -> dict[str, dict[str, str]]:
    with Path(path).open(newline="") as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


def bold(path: str) -> list[tuple[str, str]]:
    """The arms and numbers in bold."""
    lines = Path(path).read_text().splitlines()
    return [(line.split()[0], number) for line in lines for number in re.findall(r"\\mathbf\{([^}]*)\}", line)]


def test_a_table_has_a_row_for_each_arm_and_a_column_for_each_eye():
    arms(cosine=0.5, linear=0.4, sigmoid=0.55)
    assert run(*BY, "--table", "t.csv", "t.tex") == 0
    rows = read("t.csv")
    assert [*rows] == ["cosine", "linear", "sigmoid"]
    tested = [f"{metrics.PANEL} {what}" for what in paper.TESTED]
    assert [*rows["cosine"]][: 3 + len(tested)] == ["arm", "seeds", metrics.PANEL, *tested]
    assert {*EYES, RECALL} <= rows["cosine"].keys()
    level = {"cosine": 0.5, "linear": 0.4, "sigmoid": 0.55}
    for at, (arm, row) in enumerate(rows.items()):
        scores = [level[arm] + seed / 100 + seed * (at + 2) % 5 / 1000 for seed in range(6)]
        assert float(row[metrics.PANEL]) == pytest.approx(np.mean(scores), rel=1e-5)
        assert float(row[EYES[1]]) == pytest.approx(2 * level[arm] + 0.025, rel=1e-5)
        assert (row["seeds"], float(row[RECALL])) == ("6", pytest.approx(0.825))
    shown = [rows[arm][f"{metrics.PANEL} verdict"] for arm in rows]
    assert shown == ["", "better", "worse"]
    assert float(rows["linear"][tested[1]]) < float(rows["linear"][tested[0]]) < float(rows["linear"][tested[2]]) < 0
    lines = Path("t.tex").read_text().splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert [line.split(" & ")[0] for line in body] == ["cosine", "linear", "sigmoid"]
    (head,) = [line for line in lines if line.startswith("arm")]
    assert {line.count(" & ") for line in (head, *body)} == {2 + len(tested) + len(EYES) + 1}
    assert all(line.endswith(r" \\") for line in (head, *body))
    assert r"panel.score $\downarrow$" in head
    assert r"classifier.recall $\uparrow$" in head


def test_numbers_of_a_metric_have_the_decimals_that_its_narrowest_interval_deserves():
    arms(cosine=0.5, linear=0.4, sigmoid=0.55)
    run(*BY, "--table", "t.csv", "t.tex")
    numbers = {float(row[f"{metrics.PANEL} high"]) - float(row[f"{metrics.PANEL} low"])
               for arm, row in read("t.csv").items() if arm != "cosine"}  # fmt: skip
    assert 0.001 <= min(numbers) < 0.01
    rows = [line.split(" & ")[2:6] for line in Path("t.tex").read_text().splitlines() if line.startswith(("co", "li", "si"))]
    assert {len(part) for row in rows for part in re.findall(r"\.(\d+)", " ".join(row))} == {4}


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


def test_a_table_needs_a_verdict_and_a_format(capsys):
    arms(cosine=0.5, linear=0.4)
    assert "t.pdf" in refused(capsys, *BY, "--table", "t.pdf", "--out", "verdict")
    assert not Path("verdict").exists()
    with pytest.raises(UserError, match="no arm has a verdict"):
        paper.write(Judgement("Which?", metrics.PANEL, (), (), Compare(), ()), Path("t.tex"))


@pytest.mark.parametrize(("value", "text"), [
    (1.5e-7, r"$1.5 \times 10^{-7}$"), (-2e8, r"$-2 \times 10^{8}$"), (0.123456, "$0.1235$"), (6, "6"), (None, ""),
    ("a_b", r"a\_b"), ("[x] 5%", r"{[}x] 5\%"), ("*", "{*}"), ("\\x{$}", r"\textbackslash{}x\{\$\}"),
    ("a\nb", "a b"), ("~^<|>&#", r"\textasciitilde{}\textasciicircum{}\textless{}\textbar{}\textgreater{}\&\#"),
])  # fmt: skip
def test_a_cell_is_shown_by_latex_as_it_is(value, text):
    assert paper._cell(value) == text
