"""``ddpm ladder search``: trials anywhere in a space, then one attempt."""

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm.ladder import attempt, climb, found, search, space, trials
from ddpm.params import config, file
from ddpm.report.blocks import Figure
from ddpm.study import plan
from tests.command import run
from tests.instant import BEST, TRIALS, Instant, find, landscape, lines
from tests.ladders import FILE, SEARCH, attempted, contest, trial
from tests.pages import Page

ROOT = Path(__file__).parents[2]
RANDOM = space.RANDOM
CHOICES = {key: SEARCH["space"][key] for key in BEST}  # of which BEST is the best
LENGTHS = {"keys": ["train.steps", "train.warmup_steps"], "shares": [0.1, 0.3]}
pytestmark = pytest.mark.usefixtures("instant")


@pytest.mark.slow
def test_what_helps_only_together_is_found_and_proved(capsys, monkeypatch):
    monkeypatch.setattr(space, "RANDOM", RANDOM)
    assert find("--trials", "48", "--slots", "3", "--json") == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["find"].items() >= BEST.items()
    assert (result["trials"], result["runs"], result["evidence"]) == (48, search.RUNS, False)
    proof = result["proof"]
    assert (proof["entry"], proof["outcome"], proof["rung"]) == ("search-1", "accepted", 1)
    assert result["claim"] == pytest.approx(proof["score"], rel=0.2)
    # each trial says that it proves nothing, and has a seed that no attempt can have
    assert all(next(iter(line.items())) == ("evidence", False) for line in lines())
    assert min(line["seed"] for line in lines()) >= 2**40 > proof["first_seed"] + proof["seeds"]
    # the find as an entry, for people
    written = file.read_params(Path("ladders/tiny/found.yaml"))
    assert written == proof["changes"]
    for page in ("search.md", "page.html"):
        assert "it holds" in (text := Path("ladders/tiny", page).read_text())
    assert Page(text).tags.count("circle") >= 48


def test_the_first_trials_are_the_champion_the_ideas_and_the_rungs_of_other_ladders(monkeypatch):
    idea = {"diffusion.loss.name": "min_snr", "train.learning_rate": 0.02, "sample.steps": 3}
    rungs = [BEST | {"train.ema.constant.value": 0.5}, {"train.learning_rate": -1}]
    monkeypatch.setattr(search, "list_ideas", lambda of: iter([idea, *rungs]))
    of = contest()
    assert [start for start, _ in search.Search(of, climb.read(of), 1, 4, None, 1).starts] == [
        {}, {"diffusion.loss.name": "min_snr", "train.learning_rate": 0.02}, BEST,  # the rest is the base's
    ]  # fmt: skip


def test_the_first_run_of_a_find_keeps_its_model_and_no_other():
    assert find("--trials", "12") in (0, 1, 3)
    state = climb.read(climb.load(FILE))
    runs = state.runs(state.attempts[-1])
    tasks = [runs.task(one) for one in runs.planned]
    (find_first,) = [task for task in tasks[:2] if task.keep_model]  # the sides come in either order
    assert (find_first.keep, find_first.name.partition("-")[0]) == (Path("ladders/tiny/find"), "challenger")
    assert [bool(task.keep) for task in tasks] == [True, True] + [False] * (len(tasks) - 2)
    assert not any(task.picture or task.keep_model for task in tasks[2:])
    # the page has what the find drew, and nothing of somebody's `ddpm sample`
    Image.new("L", (8, 8)).save("grid.png")
    Path("ladders/tiny/find").mkdir()
    one = search.Search(climb.load(FILE), state, 1, 12, None, 1)
    for shown in ([], ["the find"]):
        (pictures,) = (chapter for chapter in found.page(one) if chapter.title == "Pictures")
        assert [block.caption for block in pictures.blocks] == shown
        (answer,) = found.chapters(one, found.to_dict(one))
        assert [block.caption for block in answer.blocks if isinstance(block, Figure)] == shown
        if not shown:
            Path("grid.png").rename("ladders/tiny/find/grid.png")


@pytest.mark.parametrize(("scale", "is_early"), [(1.0, False), (6.0, True)])  # the Gaussian has 9, the champion 2 or 12
def test_a_proof_against_a_champion_that_has_learned_nothing_says_so(capsys, scale, is_early):
    Instant.score = staticmethod(lambda params, seed: scale * landscape(params, seed))
    contest(ideas=[BEST], space=CHOICES)
    assert find("--trials", "8", "--slots", "1") == 0
    page = Path("ladders/tiny/search.md").read_text()
    assert "it holds" in page
    assert ("The champion is worse than a Gaussian" in page) == is_early


def stop_before_the_second_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search with eight trials until then."""
    finish, proofs = attempt.finish, itertools.count(1)

    def finish_once(*arguments: Any) -> climb.Climb:
        if next(proofs) == 2:
            raise SystemExit(143)
        return finish(*arguments)

    with monkeypatch.context() as stopping:
        stopping.setattr(attempt, "finish", finish_once)
        assert find("--trials", "8", "--slots", "1", "--json") == 143


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_find_has_to_beat_the_best_known_idea(capsys, monkeypatch, is_stopped):
    """Also if the search is stopped between the two proofs."""
    contest(ideas=[{"diffusion.loss.name": "min_snr"}, BEST])
    if is_stopped:
        stop_before_the_second_proof(monkeypatch)
    assert find("--trials", "8", "--slots", "1", "--json") == 0
    result, state = json.loads(capsys.readouterr().out), climb.read(climb.load(FILE))
    assert [one.begin.entry for one in state.attempts] == ["search-1-idea", "search-1"]
    idea, proof = result["idea"], result["proof"]
    assert (idea["outcome"], idea["changes"], idea["rung"]) == ("accepted", BEST, 1)
    assert not {*proof["changes"]} & {*BEST}  # it is on the idea
    assert result["find"].items() >= BEST.items()
    assert result["fresh"]["champion"] == list(state.attempts[1].end.champion)
    assert np.mean(result["fresh"]["champion"]) == pytest.approx(idea["score"], rel=0.1)
    assert len(lines()) == 8
    assert "The best known idea was tried first: it holds" in Path("ladders/tiny/search.md").read_text()
    # the next search goes on from there, with all of its trials
    find("--trials", "8", "--slots", "1", "--json")
    assert (json.loads(capsys.readouterr().out)["search"], len(lines())) == (2, 16)
    assert lines()[8]["changes"] == result["find"]


def test_an_idea_that_is_the_find_or_behind_the_champion_is_not_tried_first():
    of = contest(ideas=[BEST, {"train.gradient_clip": 0.5}])
    one = search.Search(of, climb.read(of), 1, 8, None, 1)
    for scores, before in (
        ({"base": 2.0, "idea": 1.0, "new": 0.5}, [BEST]),
        ({"base": 2.0, "idea": 1.0, "new": 1.5}, []),
        ({"base": 1.0, "idea": 2.0, "new": 0.5}, []),
        ({"base": 0.4, "idea": 0.45, "new": 0.5}, []),
    ):
        recipes = {"base": {}, "idea": BEST, "new": {"train.warmup_steps": 7}}
        runs = [trial(of, seed, recipes[name], score) for name, score in scores.items() for seed in range(3)]
        one.file.own[:] = runs
        assert one.find()[0][:-1] == before


def test_a_target_is_reached_at_less_cost(capsys):
    def score(params: dict, seed: int) -> float:
        little_noise = 1 + 1e-3 * np.random.default_rng(seed).normal()
        return landscape(params, 0) * little_noise * (160 / params["train"]["steps"]) ** 0.2

    Instant.score = staticmethod(score)
    contest(
        kind="target", target=1.4, space=SEARCH["space"] | {"train.steps": "budget"}, ideas=[BEST, {"train.steps": 40}]
    )
    assert find("--trials", "12", "--slots", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert lines()[1]["changes"].items() >= BEST.items()
    assert 0.48 < lines()[1]["cost"] / climb.load(FILE).limit <= 0.5  # an idea begins at half of the champion's cost
    assert lines()[2]["changes"] == {"train.steps": 40}  # unless it says where
    assert result["find"].items() >= BEST.items()
    assert result["proof"]["cost"] < 0.7 * climb.load(FILE).limit


def test_short_trainings_go_on_by_their_rank_and_the_proof_is_at_the_full_length(capsys):
    steps = list[int]()

    def score(params: dict, seed: int) -> float:
        steps.append(params["train"]["steps"])
        return landscape(params, seed) * steps[-1] / 160  # a short one looks better

    Instant.score = staticmethod(score)
    of = contest(lengths=LENGTHS, ideas=[BEST])
    Instant.patience = 17
    assert find("--trials", "12", "--slots", "1", "--json") == 143
    Instant.patience = math.inf
    assert find("--trials", "12", "--slots", "1", "--json") == 0
    result, made = json.loads(capsys.readouterr().out), lines()
    assert (made[0]["changes"], made[0].get("length")) == ({}, None)  # the champion, to its end
    assert (made[1]["changes"], made[1]["length"]) == (BEST, 0.1)
    assert 12 <= math.fsum(line.get("length", 1) for line in made) < 13
    assert steps[: len(made)] == [round(160 * line.get("length", 1)) for line in made]
    seen = {length: list[tuple[float, dict]]() for length in of.lengths}
    for line in made:
        if (length := line.get("length", 1.0)) > 0.1 and line["changes"]:
            before = seen[of.lengths[of.lengths.index(length) - 1]]
            best = sorted(before, key=lambda one: one[0])[: len(before) // trials.ETA]
            assert line["changes"] in [changes for _, changes in best]
        seen[length].append((line["score"], line["changes"]))
    assert len(seen[0.1]) > 2 * len(seen[0.3]) > 0
    assert result["claim"] == np.mean([score for score, changes in seen[1.0] if changes == result["find"]])
    assert {*steps[len(made) :]} == {160}  # of the proof
    assert f"{len(made)} trials, {len(seen[1.0])} of them whole" in Path("ladders/tiny/search.md").read_text()
    assert run("ladder", "params", "tiny", "trial-2", "--force") == 0
    assert config.load().train.steps == 16


def test_a_find_holds_at_the_longer_training_too(capsys, monkeypatch):
    """Also if the search is stopped between its two proofs."""
    contest(ideas=[BEST], space=CHOICES, long={"keys": ["train.steps"], "factor": 3})
    stop_before_the_second_proof(monkeypatch)
    assert len(climb.read(climb.load(FILE)).attempts) == 2
    assert find("--trials", "8", "--json") == 0
    result, state = json.loads(capsys.readouterr().out), climb.read(climb.load(FILE))
    assert (result["proof"]["rung"], result["longer"]["rung"], len(state.attempts)) == (None, 1, 2)
    assert result["find"].items() >= BEST.items()
    assert state.changes == result["find"]


@pytest.mark.parametrize(("p2", "others", "gaussian"), [(1.1, 0.1, 9.0), (1.1, 1.08, 1.09)])
def test_a_guard_is_kept_by_the_search(capsys, p2, others, gaussian):
    """The best score breaks a guard, by more than its margin or by less than a Gaussian, so another recipe is found."""
    kid = "random_conv.fd"
    scores = {True: {kid: p2, f"yardsticks.gaussian.{kid}": gaussian}}
    scores[False] = scores[True] | {kid: others}
    Instant.more = staticmethod(lambda params: scores[params["diffusion"]["loss"]["name"] == "p2"])
    of = contest(guards=[kid, "memorisation"])
    one = search.Search(of, climb.read(of), 1, 30, None, 1)
    one.explore(print, lambda _: None)
    broken = sum(trial.changes.get("diffusion.loss.name") == "p2" for trial in one.past)
    assert capsys.readouterr().out.count(f", fails {kid};") == broken > 0
    assert all(changes.get("diffusion.loss.name") != "p2" for changes in one.find()[0])


def test_a_search_in_which_all_break_a_guard_says_so(capsys):
    kid = "random_conv.fd"
    Instant.more = staticmethod(lambda params: {kid: 2.0, f"yardsticks.gaussian.{kid}": 1.0})
    contest(guards=[kid])
    assert find("--trials", "8", "--slots", "1", "--json") == 1
    assert f"{kid} in 8" in json.loads(capsys.readouterr().out)["reason"]


@pytest.mark.parametrize(("scores", "found"), [
    ([], []),
    ([({}, 1.0)] + [(BEST, 1.2)] * search.RUNS, []),  # a champion that ran less often
    ([({}, 1.5)] + [(BEST, 1.2)] * search.RUNS, [BEST]),  # is passed over only by a better recipe
    ([({"train.learning_rate": 0.02}, 0.9)] + [(BEST, 1.2)] * search.RUNS, [BEST]),  # a lucky run is no find
    ([({"train.learning_rate": 0.02}, 0.9)] + [(BEST, None)] * search.RUNS, [{"train.learning_rate": 0.02}]),
])  # fmt: skip
def test_the_find_is_the_best_of_the_recipes_that_ran_most_often(scores, found):
    of = contest()
    for seed, (changes, score) in enumerate(scores):
        trials.add(of, trial(of, seed, changes, score))
    assert search.Search(of, climb.read(of), 1, 30, None, 1).find() == (found, "")


def test_a_recipe_that_was_refused_is_not_proved_again():
    of, key = contest(), attempted("mine", -0.5, changes=BEST)
    for seed in range(search.RUNS):
        trials.add(of, trial(of, seed, BEST, 1.2))
    assert climb.read(of).find(key).outcome == "refused"
    assert search.Search(of, climb.read(of), 1, 30, None, 1).find() == ([], "")


def test_a_range_around_a_key_that_is_null_is_searched():
    contest(common={"train.gradient_clip": None}, space={"train.gradient_clip": {"low": 0.1, "high": 2.0}})
    assert find("--trials", "6", "--slots", "1") != 2
    assert len({line["changes"].get("train.gradient_clip") for line in lines()}) > 2


def test_a_fault_of_another_ladder_is_not_this_ones():
    FILE.with_name("idea.yaml").write_text("train.learning_rate: 0.01\n")
    assert [*search.list_ideas(contest(ideas=[BEST]))] == [BEST]


def test_without_optuna_it_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert find("--trials", "8") == 2
    assert "optuna is not installed" in capsys.readouterr().err
    assert not TRIALS.exists()


def test_the_champion_becomes_params_yaml(capsys):
    contest(ideas=[BEST], space=CHOICES)
    assert run("preset", "digits", "--ladder", "tiny") == 2
    assert find("--trials", "8") == 0
    assert run("ladder", "params", "tiny", "trial-8", "--force") == 0
    trial = trials.Trials(climb.load(FILE)).read()[8]
    assert config.load().flat().items() >= {**trial.changes, "seed": trial.seed}.items()
    assert run("preset", "--ladder", "tiny", "--force") == 0
    state = climb.read(climb.load(FILE))
    champion = state.contest.params(state.changes)
    assert plan.params_of_result(config.load(), defaults=True) == plan.params_of_result(champion, defaults=True)
    assert "# The champion of ladders/tiny.yaml: rung 1" in Path("params.yaml").read_text()
