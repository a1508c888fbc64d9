"""Tuning in a study: what its plan may say, what runs first, what is chosen, and how often a verdict is then false."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.params import config, file
from ddpm.study import plan, results, slots, tuning, verdict
from ddpm.study.plan import Experiment, Study
from ddpm.study.worker import DIVERGED, Worker
from ddpm.training import history
from ddpm.verdicts.tuning import Tried
from tests import study_project
from tests.scored import Experiment as Scored
from tests.scored import params
from tests.study_project import PLAN, commit, refs, study

STUDY = study_project.STUDY + "tune: {train.learning_rate: [0.001, 0.01], seeds: 2, few: true}\n"
TUNING = [f"tiny-{v}-tune-{p}-{k}" for k in (1, 2) for p in (1, 2) for v in ("cosine", "linear")]
VERDICT = [f"tiny-{v}-{seed}" for seed in range(2) for v in ("cosine", "linear")]
JUDGE = verdict.judge  # which the project below replaces
# mean of classifier.fd by schedule and learning rate; nan: training diverges
MEANS = {("cosine", 0.001): 1.0, ("cosine", 0.01): 1.5, ("linear", 0.001): 1.2, ("linear", 0.01): 0.5}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study_project.make(tmp_path)
    study_project.install(monkeypatch)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    base = params(compare={"confidence": 0.5})
    Path("params.yaml").write_text(yaml.safe_dump(base))
    PLAN.write_text(STUDY)
    commit("a study with tuning")


def load(text: str = STUDY) -> Study:
    PLAN.write_text(text)
    return plan.load(PLAN)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The experiments that ran, which get scores in place of training."""
    ran: list[str] = []

    @contextmanager
    def slot(_: str) -> Iterator[tuple[Path, int]]:
        yield tmp_path, 0

    def make(self: Worker, experiment: Experiment, folder: Path, lock: Path) -> None:
        written = file.decode(experiment.text, "test")
        chosen = config.check(written)
        mean = MEANS[chosen.diffusion.schedule.name, chosen.train.learning_rate]
        ran.append(experiment.name)
        if math.isnan(mean):
            raise UserError(f"{experiment.name}: train: the loss or its gradient is not finite at step 3 (loss nan)")
        changes = {
            "seed": chosen.seed, "diffusion__schedule__name": chosen.diffusion.schedule.name,
            "train": written["train"], "sample__seeds": list(chosen.sample.seeds),
            "compare": {"confidence": 0.5},
        }  # fmt: skip
        noise = 0.1 * math.sin(1000 * chosen.train.learning_rate * chosen.seed)
        made = Scored("x", mean + noise, changes).contents()
        files = {path: text.encode() for path, text in made.items()}
        results.publish(experiment, self.study, self.ledger.commit, files, 1.0)

    monkeypatch.setattr(slots, "slot", slot)
    monkeypatch.setattr(Worker, "_make", make)
    return ran


def test_runs_for_tuning_come_first_each_at_a_point_of_the_grid_and_draw_seeds_of_their_own() -> None:
    found = load()
    assert [each.name for each in found.lines()] == [*TUNING, *VERDICT]
    one = found.tuning()[3]
    chosen = config.check(file.decode(one.text, "test"))
    assert (one.name, chosen.train.learning_rate, chosen.diffusion.schedule.name) == (TUNING[3], 0.01, "linear")
    verdict = {seed for each in found.experiments() for seed in (each.seed, *each.config.sample.seeds)}
    tuned = [config.check(file.decode(each.text, "test")) for each in found.tuning()]
    assert not verdict & {seed for each in tuned for seed in (each.seed, *each.sample.seeds)}
    assert len({each.sample.seeds for each in tuned}) == 2  # all of one seed draw the same noise


def test_runs_for_tuning_score_the_end_alone_since_that_is_what_chooses(trained: list[str]) -> None:
    constant = "train.lr_decay: constant, train.snapshots: [8]"
    text = STUDY.replace("name: cosine", f"name: cosine, {constant}").replace(
        "name: linear", f"name: linear, {constant}"
    )
    found = load(text)
    assert {each.config.train.snapshots for each in found.experiments()} == {(8,)}
    for each in found.tuning():
        assert config.check(file.decode(each.text, "test")).train.snapshots == ()
        Worker(results.Ledger(found)).run(each)
    ledger = results.Ledger(found)
    assert sorted(trained) == sorted(ledger.done)
    ledger.settle()
    assert ledger.study.chosen.keys() == {"cosine", "linear"}


def test_tuning_is_part_of_what_decides() -> None:
    plain = load(STUDY[: STUDY.index("tune")])
    assert load().hash != plain.hash
    assert load(STUDY.replace("0.01]", "0.02]")).hash != load().hash
    settled = load().settled({"cosine": load().points["cosine"][1]})
    assert settled.hash == load().hash


RATES = "train.learning_rate: [0.001, 0.01]"


@pytest.mark.parametrize(
    ("tune", "line"),
    [
        (f"{{{RATES}, seeds: 3}}", "tune: seeds: 3 cannot tell one value from the next; allowed: 4 or more"),
        (f"{{{RATES}, seeds: [501, 502]}}", "tune: seeds: 2 cannot tell"),
        (f"{{{RATES}, seeds: 1, few: true}}", "tune: seeds: 1 cannot tell"),
        (f"{{{RATES}, seeds: 4, claim: worst}}", "tune.claim: 'worst' is not allowed"),
        ("{seeds: 4}", "tune: no key to tune"),
        (f"{{{RATES}}}", "tune.seeds: missing"),
        (f"{{{RATES}, seeds: 0}}", "tune.seeds: 0 is not allowed: a number of seeds from 1 to 64"),
        (f"{{{RATES}, seeds: [9, 1], few: true}}", "tune.seeds: 1 is a seed of the verdict, which has 0 to 1"),
        (f"{{{RATES}, seeds: [9, 9]}}", "tune.seeds: (9, 9) is not allowed"),
        ("{train.batch_size: [4], seeds: 4}", "train.batch_size: [4] is not allowed: a list of two or more"),
        ("{train.batch_size: 4, seeds: 4}", "train.batch_size: 4 is not allowed: a list of two or more"),
        ("{train.learning_rate: [1, 5], seeds: 4}", "variants.cosine, with train.learning_rate 5: train.learning_rate"),
        ("{train.learning_rat: [1, 5], seeds: 4}", "train.learning_rat: unknown key (did you mean 'learning_rate'?)"),
        ("{train.steps.x: [1, 2], seeds: 4}", "train.steps.x: steps is a value, no section"),
        ("{seed: [1, 2], seeds: 4}", "tune: seed: cannot be tuned; allowed: keys of diffusion, model, train, sample"),
        ("{sample.seeds: [[1], [2]], seeds: 4}", "tune: sample.seeds: cannot be tuned"),
        ("{sample.batch_size: [1, 2], seeds: 4}", "tune: sample.batch_size: cannot be tuned"),
        ("{evaluate.kid_subsets: [1, 2], seeds: 4}", "tune: evaluate.kid_subsets: cannot be tuned"),
        ("{diffusion.schedule.name: [a, b], seeds: 4}", "variants.cosine: diffusion.schedule.name: tune chooses it"),
        (f"{{train.steps: {list(range(1, 66))}, seeds: 4}}", "tune: 65 combinations of values; allowed: at most 64"),
        ("[1]", "tune: (1,) is not allowed"),
    ],
)
def test_what_is_refused(tune: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        load(STUDY[: STUDY.index("tune")] + f"tune: {tune}\n")
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_variant_called_like_a_run_for_tuning_is_refused() -> None:
    with pytest.raises(UserError, match="variants: cosine-tune-1: runs for tuning have that name"):
        load(STUDY.replace("linear:", "cosine-tune-1:").replace("looks: [2]", "looks: [3]"))


@pytest.mark.slow
def test_a_study_tunes_then_takes_each_variant_at_the_value_chosen(
    trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert study("run", str(PLAN), "--line", "9") == 2
    said = capsys.readouterr().err
    assert said == "error: --line: 9: tiny-cosine-0: cosine has to be tuned first: --line 1 3 5 7\n"
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert trained == [*TUNING, *VERDICT]
    rates = {each.name: each.config.train.learning_rate for each in settled().experiments()}
    assert rates == {"tiny-cosine-0": 0.001, "tiny-cosine-1": 0.001, "tiny-linear-0": 0.01, "tiny-linear-1": 0.01}
    found = json.loads(Path("metrics/studies/tiny/verdict.json").read_text())
    assert [(each["variant"], each["values"], each["chosen"]) for each in found["tuning"]] == [
        ("cosine", {"train.learning_rate": 0.001}, True), ("cosine", {"train.learning_rate": 0.01}, False),
        ("linear", {"train.learning_rate": 0.001}, False), ("linear", {"train.learning_rate": 0.01}, True),
    ]  # fmt: skip
    page = Path("metrics/studies/tiny/verdict.md").read_text()
    assert "each arm at the value that 2 seeds chose from 2 for train.learning_rate: cosine 0.001; linear 0.01" in page
    assert "at its best" not in page
    assert "linear: chosen at train.learning_rate 0.01, the largest tried: the grid may be too small" in page
    assert "it is linear, cosine with the values chosen, but cosine, linear at train.learning_rate 0.001" in page
    assert Path("metrics/studies/tiny/tuning.png").read_bytes().startswith(b"\x89PNG")
    before = refs()
    assert study("run", str(PLAN), "--line", "9") == 0
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert refs() == before
    assert len(trained) == 12


@pytest.mark.slow
def test_a_claim_about_the_best_runs_the_other_values_that_could_overturn_it(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verdict, "judge", JUDGE)
    monkeypatch.setitem(MEANS, ("cosine", 0.01), 1.01)  # two seeds cannot tell it from 1
    monkeypatch.setitem(MEANS, ("linear", 0.001), 0.51)
    PLAN.write_text(STUDY.replace("few: true", "few: true, claim: best"))
    commit("a claim")
    others = ["tiny-cosine-value-2-0", "tiny-cosine-value-2-1"]
    for line in range(1, len(TUNING + VERDICT) + 1):
        assert study("run", str(PLAN), "--line", str(line)) == 0
    assert study("verdict", str(PLAN)) == 0
    said = capsys.readouterr().out
    assert "linear is not decided yet" in said
    assert "better at the values chosen, but not yet with cosine at train.learning_rate 0.01" in said
    assert "next look: 2 seeds of cosine, linear" in said
    assert study("status", str(PLAN), "--json") == 0
    left = json.loads(capsys.readouterr().out)
    assert (left["next_look"], left["left"]) == (2, others)
    lines = {each["name"]: each["line"] for each in left["experiments"]}
    assert study("run", str(PLAN), "--line", str(lines[others[0]])) == 0  # then a power cut
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert trained == [*TUNING, *VERDICT, *others]
    assert "linear is better at its best: FD" in capsys.readouterr().out
    found = json.loads(Path("metrics/studies/tiny/verdict.json").read_text())
    [one] = [each for each in found["findings"] if each["metric"] == found["primary"]]
    assert (one["outcome"], one["at_best"], found["open"], found["alternatives"]) == ("better", True, [], [])
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert len(trained) == len([*TUNING, *VERDICT, *others])


@pytest.mark.slow
def test_a_claim_about_the_best_stays_open_if_a_run_that_it_needs_fails(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verdict, "judge", JUDGE)
    monkeypatch.setitem(MEANS, ("cosine", 0.01), 1.01)
    make = Worker._make

    def fail(self: Worker, experiment: Experiment, folder: Path, lock: Path) -> None:
        if experiment.name == "tiny-cosine-value-2-1":
            raise UserError(f"{experiment.name}: out of luck")
        make(self, experiment, folder, lock)

    monkeypatch.setattr(Worker, "_make", fail)
    PLAN.write_text(STUDY.replace("few: true", "few: true, claim: best").replace("looks: [2]", "looks: [3, 4]"))
    commit("a claim")
    assert study("run", str(PLAN), "--slots", "1") == 1
    seeds = [*VERDICT, "tiny-cosine-2", "tiny-linear-2"]  # none of the next look, which it cannot reach
    assert trained == [*TUNING, *seeds, "tiny-cosine-value-2-0", "tiny-cosine-value-2-2"]
    said = capsys.readouterr()
    assert "linear is not decided yet" in said.out
    assert "tiny-cosine-value-2-1: out of luck" in said.err


def test_the_verdict_so_far_of_a_study_that_is_still_tuning_has_the_variants_that_are_done(trained: list[str]) -> None:
    for line in ("1", "3", "5", "7"):  # of cosine
        assert study("run", str(PLAN), "--line", line) == 0
    assert study("verdict", str(PLAN)) == 0
    assert len(trained) == 4
    found = json.loads(Path("metrics/studies/tiny/verdict.json").read_text())
    assert {each["variant"] for each in found["tuning"]} == {"cosine"}
    assert (found["findings"], found["open"]) == ([], ["cosine", "linear"])


def settled() -> Study:
    ledger = results.Ledger(plan.load(PLAN))
    ledger.settle()
    return ledger.study


def test_a_value_that_diverges_is_a_result_and_is_not_chosen(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MEANS, ("linear", 0.01), math.nan)
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert set(refs()) == {*TUNING, *VERDICT}
    assert len(trained) == 12  # what diverged is not run again
    assert settled().chosen["linear"].values == {"train.learning_rate": 0.001}
    assert "training diverged, at train.learning_rate 0.01" in capsys.readouterr().out
    assert study("status", str(PLAN)) == 0
    assert "linear, tuning" in capsys.readouterr().out


def test_a_variant_for_which_nothing_works_is_left_out_and_says_so(
    trained: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rate in (0.001, 0.01):
        monkeypatch.setitem(MEANS, ("linear", rate), math.nan)
    study("run", str(PLAN), "--slots", "1")
    assert "linear: left out: it has no classifier.fd at any of the values tried" in capsys.readouterr().out
    assert study("run", str(PLAN), "--line", "10") == 2
    assert "no value tried for linear gave a classifier.fd" in capsys.readouterr().err


def test_what_training_says_when_it_diverges_is_known() -> None:
    said = Path(history.__file__).read_text()
    for words in ("train: the loss or its gradient is not finite", "train: the gradient overflowed"):
        assert words in said
        assert DIVERGED.search(words)


# --- what is chosen


def tried(table: Mapping[str, list[list[float]]], keys: str = "train.learning_rate") -> tuple[Tried, ...]:
    """From scores by variant, point and seed."""
    found = []
    for variant, rows in table.items():
        place = int(tuning.best(np.array(rows), True))
        for at, row in enumerate(rows):
            values = {keys: (0.001, 0.01, 0.1)[at]}
            found.append(Tried(variant, values, tuple(row), float(np.mean(row)), at == place))
    return tuple(found)


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first() -> None:
    scores = np.array([[[3.0, 1.0], [1.0, 1.5], [2.0, 2.0]], [[2.0, 2.0], [1.0, 3.0], [math.nan, 0.0]]])
    assert tuning.best(scores, lower=True).tolist() == [1, 0]
    assert tuning.best(scores, lower=False).tolist() == [0, 0]


def test_the_first_ranked_at_an_inner_value_gets_no_warning() -> None:
    found = tried({"v": [[3.0], [1.0], [3.0]], "x0": [[4.0], [2.0], [4.0]]})
    assert tuning.notes(found, "classifier.fd") == [
        "the ranking of the variants in classifier.fd is the same at every value that all of them share"
    ]


def test_several_keys_make_a_grid_in_the_plans_order() -> None:
    found = load(STUDY.replace("0.01]", "0.01], sample.clip_denoised: [true, false]"))
    assert [list(point.values.values()) for point in found.points["linear"]] == [
        [0.001, True], [0.001, False], [0.01, True], [0.01, False],
    ]  # fmt: skip
    scores = {each.name: float(number) for number, each in enumerate(found.tuning())}
    table = tuning.tries(found, scores)
    assert [each.values for each in table if each.chosen] == [
        {"train.learning_rate": 0.001, "sample.clip_denoised": True}
    ] * 2
    [(_, (heads, *rows))] = tuning.titled(table, "classifier.fd")
    assert heads == ["variant", "0.001, True", "0.001, False", "0.01, True", "0.01, False"]
    assert rows[0] == ["cosine", "4*", "6 (+2 to +2)", "8 (+4 to +4)", "10 (+6 to +6)"]
    [panel] = tuning.panels(table, "classifier.fd")
    np.testing.assert_allclose(panel.curves["cosine"], [[0.001, 4], [0.01, 8]])
