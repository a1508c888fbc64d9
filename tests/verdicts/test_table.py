"""``ddpm judge``: a table from anywhere becomes a verdict, or one line that says why not."""

import csv
import io
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ddpm.verdicts import statistics
from ddpm.verdicts.confirmation import bounds
from tests.command import refused, run

pytestmark = pytest.mark.usefixtures("folder")

NOISE = np.array([0.12, 0.03, 0.07, 0.16, 0.01, 0.09])
LOSS = {"adam": 1.0, "muon": 0.8, "sgd": 1.2}
BETTER = ("--better", "loss=lower,acc=higher")
NAN = "scores.csv: row 3: loss: "


def write(rows: list[dict], delimiter: str = ",", begin: str = "", path: str = "scores.csv") -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    Path(path).write_text(begin + text.getvalue())
    return Path(path)


def rows(arms: dict[str, float] = LOSS, seeds=range(6), shift: int = 0) -> list[dict]:
    """shift: of each arm's seeds against those of the one before."""
    found = []
    for at, (arm, loss) in enumerate(arms.items()):
        for place, seed in enumerate(seeds):
            score = loss + NOISE[place % 6] + (place * 7 + at * 3) % 5 / 1000
            found.append({"arm": arm, "seed": seed + shift * at, "loss": score, "acc": 1 - score / 10})
    return found


def judged(capsys: pytest.CaptureFixture, *arguments: object) -> dict:
    assert run("judge", "scores.csv", *map(str, arguments), "--json") == 0
    return json.loads(capsys.readouterr().out)


def outcomes(found: dict) -> dict[tuple[str, str], str]:
    return {(row["arm"], row["metric"]): row["outcome"] for row in found["verdicts"]}


def test_runs_of_the_same_seed_are_paired_and_each_metric_has_its_direction(capsys):
    write(rows())
    found = judged(capsys, *BETTER)
    assert found["primary"] == "loss"
    assert outcomes(found) == {
        (arm, metric): outcome
        for (arm, outcome), metric in product({"muon": "better", "sgd": "worse"}.items(), ("loss", "acc"))
    }
    for row in found["verdicts"]:
        assert (row["baseline"], row["seeds"], row["setting"]) == ("adam", [0, 1, 2, 3, 4, 5], "")
        gaps = np.subtract(row["arm_scores"], row["baseline_scores"])
        level = 0.05 * (0.9 if row["metric"] == "loss" else 0.1) / 2
        low, high = stats.ttest_1samp(gaps, 0).confidence_interval(1 - level)
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert "6 paired training seeds" in found["citations"]["muon"]
    assert not any(word in found["citations"]["muon"] for word in ("?", "unknown", "; ."))


def test_arms_without_common_seeds_are_judged_by_welchs_test_which_is_said(capsys):
    write(rows(shift=100))
    found = judged(capsys, "--better", "loss=lower")
    assert outcomes(found) == {("muon", "loss"): "better", ("sgd", "loss"): "worse"}
    for row in found["verdicts"]:
        assert row["seeds"] == []
        assert row["worst"] is None
        test = stats.ttest_ind(row["arm_scores"], row["baseline_scores"], equal_var=False)
        low, high = test.confidence_interval(1 - 0.05 * 0.9 / 2)
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        assert row["p"] == pytest.approx(test.pvalue * 2 / 0.9)
        assert any("Welch" in note and row["arm"] in note for note in found["notes"])
    assert "not paired" in found["citations"]["muon"]
    assert run("judge", "scores.csv", "--better", "lower", "--out", "verdict", "--table", "t.csv") == 0
    assert "share" in capsys.readouterr().out
    write(rows(seeds=range(5), shift=100))
    assert set(outcomes(judged(capsys, "--better", "loss=lower")).values()) == {"inconclusive"}


def test_welchs_test_keeps_its_error_rate_where_sds_and_sizes_differ():
    random = np.random.default_rng(0)
    tests = [statistics.welch_test(random.normal(0, 1, 6), random.normal(0, 4, 18), 0.0, 0.95) for _ in range(2000)]
    assert np.mean([float(test.p) <= 0.05 for test in tests]) == pytest.approx(0.05, abs=0.012)
    assert np.mean([test.low <= 0 <= test.high for test in tests]) == pytest.approx(0.95, abs=0.012)
    still = statistics.welch_test(np.ones(6), np.ones(6), 0.0, 0.95)
    assert (still.p, still.low, still.high) == (1, 0, 0)


def changed(place: int, **cells: object) -> list[dict]:
    made = rows()
    made[place] |= cells
    return made


@pytest.mark.parametrize(("made", "options", "named"), [
    (rows(), ["--seed", "sede"], "did you mean 'seed'"),
    (rows(), ["--better", "loss=lower", "--primary", "acc"], "--primary: 'acc'"),
    (rows(), ["--baseline", "adan"], "did you mean 'adam'"),
    (rows(), ["--table", "./scores.csv"], "--table: scores.csv"),
    (rows(), ["--better", "lower", "higher"], "--better lower higher: sets a column twice"),
    (rows(), ["--better", "loss=lower", "loss=higher"], "--better loss=lower loss=higher: sets a column twice"),
    (rows(), ["--better", "loss=lower", "seed=lower"], "--better: 'seed'; allowed: loss, acc"),
    (rows(), ["--better", "loss=lower", "--margin", "acc=1"], "--margin: 'acc'; allowed: loss"),
    (rows(), ["--margin", "loss=-1"], "--margin: loss: '-1'"),
    (changed(1, seed=0), [], "row 3: adam has seed 0 twice"),
    (changed(1, loss="NaN"), [], f"{NAN}'NaN'"),
    (changed(1, loss="1e200"), [], f"{NAN}'1e200'"),
    (changed(1, seed="first"), [], "row 3: seed: 'first'"),
    (changed(1, arm="\x1b[2J"), [], "row 3: arm: "),
    ([row | {"state": "finished"} for row in rows()], ["--better", "lower"], "row 2: state: 'finished'"),
    (rows({"adam": 1.0}), [], "arm: adam; allowed: two"),
    ([row | {"loss": 1, "acc": 1} for row in rows()], [], "adam: only one row, or only equal ones"),
    (rows(seeds=range(4)), ["--gate"], "adam has 4 runs; allowed: at least 5, each with a seed of its own"),
    (rows() + rows()[-1:], ["--gate"], "row 20: sgd has seed 5 twice"),
    (rows() + [rows()[0] | {"arm": "new", "seed": seed} for seed in range(4)], ["--gate"], "new: only one row, or"),
    (b"", [], "scores.csv: is empty"),
    (b"arm,seed,loss,acc\n", [], "no rows"),
    (b"arm,seed,loss,loss\na,1,2,3\n", [], "two columns are called 'loss'"),
    (b"arm,seed,loss,acc\na,1,2,3,4\n", [], "row 2"),
    (b"arm,seed,loss,acc\na," + b"9" * 5000 + b",1,1", [], "row 2: seed"),
    (b"arm,seed,loss,acc\n" + b"a" * 1000 + b",1,1,1", [], "row 2: arm"),
    (b'arm,seed,loss,acc\n"a,1,1,1', [], "not a CSV file"),
    (b"arm,seed,loss,acc\n\xff\xfe,1,1,1", [], "not a CSV file"),
    (b"arm,seed,loss,acc\n" + b"".join(b"a,%d,1,1\n" % seed for seed in range(11_000)), [], "too large"),
    (b"x," * 10**5, [], "too large"),
])  # fmt: skip
def test_a_mistake_is_one_short_line_and_writes_nothing(capsys, made, options, named):
    if isinstance(made, bytes):
        Path("scores.csv").write_bytes(made)
    else:
        write(made)
    given = options if "--better" in options else [*BETTER, *options]
    line = refused(capsys, "judge", "scores.csv", *given, "--out", "verdict")
    assert named in line
    assert len(line) < 3000
    assert [path.name for path in Path().iterdir()] == ["scores.csv"]


BASE = [row for row in rows() if row["arm"] == "adam"]
AT_ONCE, ALARM, CONFIRM = np.array([row["loss"] for row in BASE]).std(ddof=1) * np.array(bounds(6, 0.05 * 0.9 / 2))


def gated(capsys: pytest.CaptureFixture, *gaps: float, first: int = 6) -> tuple[int, dict]:
    """Exit code and verdict of a gate over runs that are so much worse than the baseline's mean, the newest on top."""
    mean = np.mean([row["loss"] for row in BASE])
    runs = [BASE[0] | {"arm": "new", "seed": first + at, "loss": mean + gap} for at, gap in enumerate(gaps)]
    write([*runs[::-1], *BASE])
    code = run("judge", "scores.csv", *BETTER, "--baseline", "adam", "--gate", "--json")
    (loss, _) = json.loads(capsys.readouterr().out)["verdicts"]
    return code, loss


@pytest.mark.parametrize(("gaps", "code", "outcome", "seeds"), [
    ([0.99 * ALARM], 0, "inconclusive", [6]),
    ([-1.01 * AT_ONCE], 0, "better", [6]),
    ([1.01 * AT_ONCE], 1, "worse", [6]),
    ([0.99 * AT_ONCE], 3, "not yet", [6]),
    ([1.01 * ALARM, 9, 9], 3, "not yet", [6]),
    ([1.01 * ALARM, 0, 0, 3.03 * CONFIRM, 0], 1, "worse", [7, 8, 9]),
    ([1.01 * ALARM, 0, 0, 2.97 * CONFIRM, 9], 0, "inconclusive", [7, 8, 9]),
    ([0.99 * ALARM, 9, 9, 9], 0, "inconclusive", [6]),
])  # fmt: skip
def test_a_gate_judges_one_run_and_after_an_alarm_the_next_three(capsys, gaps, code, outcome, seeds):
    found, loss = gated(capsys, *gaps)
    assert (found, loss["outcome"], loss["seeds"]) == (code, outcome, seeds)


def test_an_alarm_names_the_seeds_that_decide_it_and_another_metric_raises_none(capsys):
    for first, more, named in (
        (6, [], "seeds 7 8 9"),
        (0, [], "seeds 6 7 8"),
        (6, [1], "seeds 8 9"),
        (6, [1, 2], "seed 9,"),
    ):
        assert named in gated(capsys, 1.01 * ALARM, *more, first=first)[1]["headline"]
    write([*BASE, BASE[0] | {"arm": "new", "seed": 9, "acc": 0}])
    assert run("judge", "scores.csv", *BETTER, "--gate", "--out", "verdict", "--table", "t.tex") == 0
    assert capsys.readouterr().out.startswith("gate: pass\n")


def test_a_gate_over_several_changes_fails_if_one_is_worse(capsys):
    """Which share the error rate."""
    gated(capsys, 1.01 * ALARM)
    with Path("scores.csv").open("a") as file:
        file.write("copy,3,{loss},{acc}\nbad,1,9,0\n".format(**BASE[3]))
    assert run("judge", "scores.csv", *BETTER, "--baseline", "adam", "--gate") == 1
    shown = capsys.readouterr().out
    assert shown.startswith("gate: regression\n")
    assert "3 comparisons" in shown


def test_a_run_that_changes_nothing_raises_no_alarm(capsys):
    twice = max(BASE, key=lambda row: row["loss"])
    for change, code in ((0, 0), (1e-9, 3)):
        write([*BASE, twice | {"arm": "new", "loss": twice["loss"] + change}])
        assert run("judge", "scores.csv", *BETTER, "--gate") == code


EVIL = ["<script>", "=HYPERLINK(1)", "|a| # b", "$x$ \\input{/etc/passwd}"]


def test_names_from_a_table_control_no_page_formula_or_macro():
    write(rows(dict(zip(EVIL, (1.0, 0.8, 1.2, 1.1), strict=True))))
    given = ["--better", "loss=lower", "--out", "verdict", "--table", "t.tex", "t.csv"]
    assert run("judge", "scores.csv", *given) == 0
    assert not any(odd in Path("verdict/verdict.md").read_text() for odd in ("<script", " |a|"))
    assert run("judge", "scores.csv", "--better", "loss=lower", "--out", "page.html") == 0
    assert "<script" not in Path("page.html").read_text()
    assert "\\input" not in Path("t.tex").read_text()
    with Path("t.csv").open(newline="") as file:
        assert [row["arm"][:2] for row in csv.DictReader(file)][1] == "'="
