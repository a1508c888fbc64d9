"""``ddpm ladder search``: trials anywhere in a space, then one attempt; with runs that take no time."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ddpm.base.locks import lock
from ddpm.ladder import attempt, climb, pairs, proposals, search, terms, trials
from ddpm.ladder.space import Space
from ddpm.ladder.trials import Trial
from ddpm.params import config, file
from ddpm.runs import library, record
from ddpm.study import plan, revision
from ddpm.study.pool import Done
from tests.command import run
from tests.ladders import FILE, SEARCH, contest
from tests.scored import bare

ROOT = Path(__file__).parents[2]
TRIALS = Path("ladders/tiny/trials.jsonl")
RANDOM = proposals.RANDOM
BEST = {"train.optimizer.name": "muon", "diffusion.loss.name": "p2"}


def landscape(params: dict, seed: int) -> float:
    """A score that two keys improve only together, and that has noise."""
    noise = np.random.default_rng(seed).normal(0, 0.05)
    train, loss = params["train"], params["diffusion"]["loss"]["name"]
    both = train["optimizer"]["name"] == "muon" and loss == "p2"
    distance = abs(math.log10(train["learning_rate"] / 0.01))
    alone = train["optimizer"]["name"] == "muon" and not both
    return float(np.exp(noise)) * (2 + distance - 1.5 * both + 0.3 * alone)


def nothing(params: dict, seed: int) -> float:
    """A score that is noise."""
    return 2 + float(np.random.default_rng(seed).normal(0, 0.2))


def made(params: dict, score: float) -> record.Record:
    scores = {"classifier.fd": score, "yardsticks.gaussian.classifier.fd": 9.0}
    known = library.relevant(config.parse(params).flat())
    return bare(params["seed"], params=known, scores=scores, comparable={"samples": 12})


class Instant:
    """Stands in for ddpm.study.pool.Pool. score: of params and a seed; a text is the reason of a failure."""

    score = staticmethod(landscape)
    patience = math.inf  # runs until it is stopped
    count = 0

    def __init__(self, code: Path, at_once: int, devices: tuple[str, ...]):
        self.waiting, self.at_once = [], at_once

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, task):
        self.waiting.append(task)
        assert len(self.waiting) <= self.at_once

    def results(self):
        while self.waiting:
            task = self.waiting.pop(0)
            type(self).count += 1
            if self.count > self.patience:
                raise SystemExit(143)
            score = type(self).score(task.params, task.params["seed"])
            if isinstance(score, str):
                yield Done(task, reason=score)
            else:
                yield Done(task, made(task.params, score))


def run_at_once(runs: pairs.Runs, seeds: int, slots: int | None, say: attempt.Say):
    """Stands in for ``pairs.Runs.run``."""
    for one in runs.planned[: seeds * len(runs.sides)]:
        record.write_record(made(one.params, Instant.score(one.params, one.seed)), runs.experiments.path(one.name))
    runs.update()
    yield seeds


@pytest.fixture(autouse=True)
def _instant(folder, monkeypatch) -> None:
    """A working folder with a ladder, runs that take no time, and proposals at random, which take none either."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SEARCH))
    for name, value in (("score", staticmethod(landscape)), ("patience", math.inf), ("count", 0)):
        monkeypatch.setattr(Instant, name, value)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setattr(search, "Pool", Instant)
    monkeypatch.setattr(proposals, "RANDOM", 10**6)
    monkeypatch.setattr(pairs.Runs, "run", run_at_once)
    monkeypatch.setattr(revision, "check_committed", lambda *_: None)
    monkeypatch.setattr(revision, "head", lambda: "")
    monkeypatch.setattr(revision, "export", lambda commit: Path())


def find(*options: str) -> int:
    return run("ladder", "search", "tiny", *options)


def lines(path: Path = TRIALS) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_what_helps_only_together_is_found_and_proved(capsys, monkeypatch):
    monkeypatch.setattr(proposals, "RANDOM", RANDOM)
    assert find("--trials", "48", "--slots", "3", "--json") == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["find"].items() >= BEST.items()
    assert (result["trials"], result["runs"], result["evidence"]) == (48, search.RUNS, False)
    proof = result["proof"]
    assert (proof["entry"], proof["outcome"], proof["rung"]) == ("search-1", "accepted", 1)
    assert result["claim"] == pytest.approx(proof["score"], rel=0.2)
    assert proof["champion"] > 2 * proof["score"]
    assert "trial 48:" in said.err
    # each trial says that it proves nothing, and has a seed that no attempt can have
    assert all(next(iter(line.items())) == ("evidence", False) for line in lines())
    seeds = {line["seed"] for line in lines()}
    assert len(seeds) == 48
    assert min(seeds) >= 2**40 > proof["first_seed"] + proof["seeds"]
    # the find as an entry, for people
    written = file.read_params(Path("ladders/tiny/found.yaml"))
    assert written == proof["changes"]
    with Image.open("ladders/tiny/search.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10
    page = Path("ladders/tiny/search.md").read_text()
    assert "it holds" in page
    assert "had claimed" in page
    assert "| accepted |" in Path("ladders/tiny/climb.md").read_text()


def test_the_first_trials_are_the_champion_the_ideas_and_the_rungs_of_other_ladders(monkeypatch):
    idea = {"diffusion.loss.name": "min_snr", "train.learning_rate": 0.02, "sample.steps": 3}
    other = search._ideas

    def ideas(contest):
        yield from other(contest)
        yield BEST | {"train.ema.constant.value": 0.5}
        yield {"train.learning_rate": -1}

    monkeypatch.setattr(search, "_ideas", ideas)
    contest(ideas=[idea])
    assert find("--trials", "4", "--slots", "1") in (0, 1, 3)
    first, second, third = (line["changes"] for line in lines()[:3])
    assert first == {}
    assert (second["diffusion.loss.name"], second["train.learning_rate"]) == ("min_snr", 0.02)
    assert "sample.steps" not in second
    assert third.items() >= BEST.items()
    assert set(third) == set(BEST)  # the rest is the base's


def test_where_nothing_matters_nothing_holds_and_the_next_search_has_all_trials(capsys):
    Instant.score = staticmethod(nothing)
    contest(error=0.05)
    assert find("--trials", "30", "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["proof"]["outcome"] in ("refused", "undecided")
    assert not climb.read(terms.load(FILE)).rungs
    assert find("--trials", "30", "--json") in (1, 3)
    again = json.loads(capsys.readouterr().out)
    assert (again["search"], len(lines())) == (2, 60)
    # a recipe that was refused is not submitted again
    assert again["find"] != result["find"]


def test_a_search_that_is_stopped_continues(capsys):
    Instant.patience = 17
    assert find("--trials", "30") == 143
    assert capsys.readouterr().out.startswith("search-1: ")  # before the first run has ended, which may take minutes
    assert len(lines()) == 17
    Instant.patience = math.inf
    assert find("--trials", "30") == 0
    assert len(lines()) == 30
    assert [line["search"] for line in lines()] == [1] * 30


def test_one_process_tries_the_same_again_and_another_one_something_else():
    def tried(patience: float) -> list[tuple]:
        Instant.patience = patience
        if patience < math.inf:
            assert find("--trials", "30", "--slots", "1") == 143
        one = search.Search(of, climb.read(of), 1, 30, None, 1)
        Instant.patience = math.inf
        one.explore(print)
        seen = [(trial.seed, dict(trial.changes), trial.score) for trial in trials.read(of)]
        TRIALS.unlink()
        return seen

    of = contest()
    alone = tried(math.inf)
    Instant.count = 0
    assert tried(17) == alone  # also after a stop
    with lock(climb.LOCKS / "tiny" / "search-0.lock"):
        other = tried(math.inf)
    assert not {seed for seed, *_ in other} & {seed for seed, *_ in alone}
    assert [changes for _, changes, _ in other[:5]] != [changes for _, changes, _ in alone[:5]]


@pytest.mark.parametrize(("hours", "late"), [("0.5", True), ("1.5", False)])
def test_hours_end_a_search_before_the_proof(capsys, monkeypatch, hours, late):
    clock = iter(np.arange(0, 10**6, 50.0))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    find("--hours", hours, "--slots", "1")
    # 50 seconds each, in 70% of the hours
    assert len(lines()) == math.ceil(float(hours) * 3600 * search.SEARCHING / 50)
    # the proof takes 20 minutes and more
    assert ("more than --hours 0.5 leaves" in capsys.readouterr().out) is late


def test_a_target_is_reached_at_less_cost(capsys):
    def score(params: dict, seed: int) -> float:
        little_noise = 1 + 1e-3 * np.random.default_rng(seed).normal()
        return landscape(params, 0) * little_noise * (160 / params["train"]["steps"]) ** 0.2

    Instant.score = staticmethod(score)
    contest(
        kind="target", target=1.2, space=SEARCH["space"] | {"train.steps": "budget"}, ideas=[BEST, {"train.steps": 40}]
    )
    assert find("--trials", "40", "--slots", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert lines()[1]["changes"].items() >= BEST.items()
    assert 0.48 < lines()[1]["cost"] / terms.load(FILE).limit <= 0.5  # an idea begins at half of the champion's cost
    assert lines()[2]["changes"] == {"train.steps": 40}  # unless it says where
    assert result["find"].items() >= BEST.items()
    assert result["proof"]["cost"] < 0.7 * terms.load(FILE).limit


def test_a_guard_is_kept_by_the_search(capsys, monkeypatch):
    """The best score breaks a guard, so another recipe is found."""
    harm, kid = {"p2": 1.1, "simple": 0.1, "min_snr": 0.1}, "random_conv.fd"
    monkeypatch.setattr(trials, "guards", lambda contest, run: {kid: harm[run.params["diffusion.loss.name"]]})
    contest(guards=["random_conv.fd"])
    state = climb.read(terms.load(FILE))
    one = search.Search(terms.load(FILE), state, 1, 30, None, 1)
    one.explore(print)
    broken = sum(trial.changes.get("diffusion.loss.name") == "p2" for trial in one.past)
    assert capsys.readouterr().out.count(f", fails {kid};") == broken > 0
    assert (one.find() or {}).get("diffusion.loss.name") != "p2"


def test_nothing_is_submitted_if_every_recipe_breaks_a_guard(monkeypatch):
    of = contest()
    one = search.Search(of, climb.read(of), 1, 30, None, 1)
    one.space = Space(of, {"train.warmup_steps": 7})
    monkeypatch.setattr(search.Search, "rank", lambda self: [])
    assert one.find() is None


@pytest.mark.parametrize(("champion", "found"), [(1.0, None), (1.5, BEST)])
def test_a_champion_that_ran_less_often_is_passed_over_only_by_a_better_recipe(champion, found):
    of = contest()
    for seed, (changes, score) in enumerate([({}, champion)] + [(BEST, 1.2)] * search.RUNS):
        trials.add(of, Trial(search=1, seed=seed, changes=changes, cost=1.0, score=score, guards={}, seconds=1.0))
    assert search.Search(of, climb.read(of), 1, 30, None, 1).find() == found


@pytest.mark.parametrize(("keys", "named"), [
    ({"train.learning_rat": [0.1, 0.2]}, "train.learning_rat"), ({"train.optimizer.muon.speed": [1, 2]}, "speed"),
    ({"train.optimizer.name": ["adamw", "lion"]}, "train.optimizer"), ({"sample.count": [1, 2]}, "sample.count"),
    ({"train.learning_rate": {"low": 1, "high": 0.1}}, "low"), ({"train.learning_rate": 0.1}, "train.learning_rate"),
    ({"train.learning_rate": {"low": 0, "high": 0.1, "log": True}}, "low"), ({"model.classes": [0, 10]}, "classes"),
    ({"train.learning_rate": {"low": 1.0e-3, "up": 0.1}}, "up"), ({"train.learning_rate": []}, "train.learning_rate"),
    ({"train.warmup_steps": "budget"}, "train.warmup_steps"), ({}, "space"),
    ({"train.batch_size": [10_000, 20_000]}, "costs"),  # what no trial can afford
])  # fmt: skip
def test_a_space_that_cannot_be_searched_is_refused(capsys, keys, named):
    FILE.write_text(yaml.safe_dump(SEARCH | {"space": keys}))
    assert find("--trials", "8") == 2
    assert named in capsys.readouterr().err
    assert not Path("ladders/tiny/log.jsonl").exists()


def test_an_end_of_the_search_has_to_be_given(capsys):
    assert find() == 2
    assert "--hours" in capsys.readouterr().err


def test_without_optuna_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert find("--trials", "8") == 2
    assert "optuna is not installed" in capsys.readouterr().err
    assert not TRIALS.exists()


def test_a_training_that_diverges_is_a_trial_and_a_worker_that_dies_is_not(capsys):
    reasons = iter(["train: the loss or its gradient is not finite at step 3; LOG", "exit code 137: killed"])
    Instant.score = staticmethod(lambda params, seed: next(reasons, None) or landscape(params, seed))
    assert find("--trials", "20", "--slots", "1") == 0
    assert [line["score"] is None for line in lines()] == [True] + [False] * 19
    assert "exit code 137" in capsys.readouterr().out


def test_a_fault_of_every_run_ends_the_search(capsys):
    Instant.score = staticmethod(lambda params, seed: "no space left on device")
    assert find("--trials", "20") == 2
    assert "no space left" in capsys.readouterr().err
    assert (Instant.count, lines()) == (search.FAILURES, [])


def test_a_full_disk_leaves_the_trials_as_they_were(capsys, monkeypatch):
    Instant.patience = 3
    assert find("--trials", "20") == 143
    before = TRIALS.read_text()

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Instant, "patience", math.inf)
    monkeypatch.setattr(Path, "write_text", full)
    assert find("--trials", "20") == 2
    assert "No space left" in capsys.readouterr().err
    assert TRIALS.read_text() == before


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", '{"evidence": true}', "[1]"])
def test_a_line_that_is_no_trial_is_named(capsys, line):
    TRIALS.parent.mkdir()
    TRIALS.write_text(f"{line}\n")
    assert find("--trials", "8") == 2
    assert "trials.jsonl: line 1" in capsys.readouterr().err


def test_the_champion_becomes_params_yaml(capsys):
    assert run("preset", "digits", "--ladder", "tiny") == 2
    assert find("--trials", "40") == 0
    trial = trials.read(terms.load(FILE))[-1]
    assert run("ladder", "params", "tiny", f"trial-{trial.seed}", "--force") == 0
    assert config.load().flat().items() >= {**trial.changes, "seed": trial.seed}.items()
    assert run("preset", "--ladder", "tiny", "--force") == 0
    state = climb.read(terms.load(FILE))
    champion = state.contest.params(state.changes(state.champion.key))
    assert plan.params_of_result(config.load(), defaults=True) == plan.params_of_result(champion, defaults=True)
    assert "# The champion of ladders/tiny.yaml: rung 1" in Path("params.yaml").read_text()
