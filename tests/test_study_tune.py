"""Tuning in a study: what its plan may say, what runs first, what is chosen, and how often a verdict is then false."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.compare import statistics
from ddpm.params import config, file
from ddpm.study import plan, results, slots, tuning
from ddpm.study.plan import Experiment, Study
from ddpm.study.sequential import Design
from ddpm.study.tuning import Tried
from ddpm.study.worker import DIVERGED, Worker
from ddpm.training import history
from tests import study_project
from tests.scored import Experiment as Scored
from tests.scored import params
from tests.study_project import PLAN, commit, refs, study

STUDY = study_project.STUDY + "tune: {train.learning_rate: [0.001, 0.01], seeds: 2}\n"
TUNING = [f"tiny-{v}-tune-{p}-{k}" for k in (1, 2) for p in (1, 2) for v in ("cosine", "linear")]
VERDICT = [f"tiny-{v}-{seed}" for seed in range(2) for v in ("cosine", "linear")]
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
    def slot(_: str) -> Iterator[Path]:
        yield tmp_path

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
        made = Scored("x", mean + 0.01 * (chosen.seed % 7), changes).contents()
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
        ("{seeds: 2}", "tune: no key to tune"),
        (f"{{{RATES}}}", "tune.seeds: missing"),
        (f"{{{RATES}, seeds: 0}}", "tune.seeds: 0 is not allowed: a number of seeds from 1 to 64"),
        (f"{{{RATES}, seeds: [9, 1]}}", "tune.seeds: 1 is a seed of the verdict, which has 0 to 1"),
        (f"{{{RATES}, seeds: [9, 9]}}", "tune.seeds: (9, 9) is not allowed"),
        ("{train.batch_size: [4], seeds: 2}", "train.batch_size: [4] is not allowed: a list of two or more"),
        ("{train.batch_size: 4, seeds: 2}", "train.batch_size: 4 is not allowed: a list of two or more"),
        ("{train.learning_rate: [1, 5], seeds: 2}", "variants.cosine, with train.learning_rate 5: train.learning_rate"),
        ("{train.learning_rat: [1, 5], seeds: 2}", "train.learning_rat: unknown key (did you mean 'learning_rate'?)"),
        ("{train.steps.x: [1, 2], seeds: 2}", "train.steps.x: steps is a value, no section"),
        ("{seed: [1, 2], seeds: 2}", "tune: seed: cannot be tuned; allowed: keys of diffusion, model, train, sample"),
        ("{sample.seeds: [[1], [2]], seeds: 2}", "tune: sample.seeds: cannot be tuned"),
        ("{sample.batch_size: [1, 2], seeds: 2}", "tune: sample.batch_size: cannot be tuned"),
        ("{evaluate.kid_subsets: [1, 2], seeds: 2}", "tune: evaluate.kid_subsets: cannot be tuned"),
        ("{diffusion.schedule.name: [a, b], seeds: 2}", "variants.cosine: diffusion.schedule.name: tune chooses it"),
        (f"{{train.steps: {list(range(1, 66))}, seeds: 1}}", "tune: 65 combinations of values; allowed: at most 64"),
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
def test_a_study_tunes_then_takes_each_variant_at_its_best(
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
    assert "each variant at its best train.learning_rate of 2, chosen on 2 seeds that the verdict does not use" in page
    assert "linear: best at train.learning_rate 0.01, the largest tried: the grid may be too small" in page
    assert "it is linear, cosine with each at its best, but cosine, linear at train.learning_rate 0.001" in page
    assert Path("metrics/studies/tiny/tuning.png").read_bytes().startswith(b"\x89PNG")
    before = refs()
    assert study("run", str(PLAN), "--line", "9") == 0
    assert study("run", str(PLAN), "--slots", "1") == 0
    assert refs() == before
    assert len(trained) == 12


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
    assert rows[0] == ["cosine", "4*", "6", "8", "10"]
    [panel] = tuning.panels(table, "classifier.fd")
    np.testing.assert_allclose(panel.curves["cosine"], [[0.001, 4], [0.01, 8]])


# --- how often a verdict is false

LOOKS, ALPHA = (8, 12, 16, 20), 0.05


def rejected(differences: np.ndarray[Any, Any]) -> float:
    """The share of studies whose t test rejects "no difference" at some look."""
    design = Design(LOOKS, "pocock")
    p = np.stack([statistics.t_test(differences[:, :look], 0.0, 0.95).p for look in LOOKS], -1)
    return float((design.p(p) <= ALPHA).any(-1).mean())


def test_choosing_on_other_seeds_leaves_verdicts_as_rarely_false() -> None:
    """Every value of the one variant is as good as the other variant's only good one: their best do not differ."""
    trials, points, seeds = 4000, 12, 8
    random = np.random.default_rng(0)
    means = np.stack([np.zeros(points), np.where(np.arange(points), 5.0, 0.0)])[:, :, None]

    def scores(count: int) -> np.ndarray[Any, Any]:
        shared = random.standard_normal((trials, 1, 1, count))
        return means + shared + random.standard_normal((trials, 2, points, count))

    tuned, fresh = scores(seeds), scores(LOOKS[-1])
    place = tuning.best(tuned, lower=True)
    assert (place[:, 1] == 0).mean() > 0.99
    assert np.bincount(place[:, 0]).min() > trials / (2 * points)

    def at_best(each: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        picked = np.take_along_axis(each, place[:, :, None, None], axis=2)[:, :, 0]
        return picked[:, 0] - picked[:, 1]

    error = 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    assert ALPHA - error < rejected(at_best(fresh)) < ALPHA + error
    # with the tuning seeds among the verdict's, whatever was lucky there would count twice
    again = np.concatenate([tuned, fresh[..., seeds:]], axis=-1)
    assert rejected(at_best(again)) > 1.4 * ALPHA
