"""The space of a ladder: what a choice of values means, what is proposed, and the file of a new ladder."""

import subprocess
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.ladder import climb, draft, search, trials
from ddpm.ladder import space as spaces
from ddpm.ladder.space import Space
from ddpm.ladder.terms import Contest
from ddpm.ladder.trials import Trials
from ddpm.params import presets
from ddpm.referee import metrics
from ddpm.scoring.evaluate_params import choose_extractor
from tests.ladders import FILE, contest, space, trial

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(folder) -> None:
    """A working folder for a ladder."""
    FILE.parent.mkdir()


def test_the_steps_follow_from_the_budget():
    wide = {"model.unet.base_channels": [8, 16, 32], "train.steps": "budget"}
    of = space(cost="flops", space=wide)
    changes = {width: of.make_changes({"model.unet.base_channels": width}) for width in (8, 16, 32)}
    usual = of.contest.config.train.steps
    assert changes[16] == {}  # the base's
    steps = {width: one.get("train.steps", usual) for width, one in changes.items()}
    assert steps[8] > 2 * steps[16] > 4 * steps[32] > 0
    for one in changes.values():
        assert 0.97 * of.contest.limit < of.contest.cost(one) <= of.contest.limit
    # a trial comes back to the values that made it
    assert [of.place(one) for one in changes.values()] == [{"model.unet.base_channels": width} for width in changes]
    # kind target searches the steps themselves
    of = space(kind="target", target=1.0, cost="images", space={"train.steps": "budget"})
    assert (of.axes["train.steps"].low, of.axes["train.steps"].high) == (3, 144)
    assert of.make_changes({"train.steps": 40}) == {"train.steps": 40}
    assert [*of.starts(iter([{}]))] == [{}, {"train.steps": 80}]


def test_a_hyperparameter_is_drawn_only_under_its_variant():
    keys = {"train.optimizer.name": ["adamw", "muon"], "train.optimizer.muon.weight_decay": {"low": 0.0, "high": 0.1}}
    of = space(space=keys)
    values = {"train.optimizer.muon.weight_decay": 0.05}
    assert of.make_changes({**values, "train.optimizer.name": "adamw"}) == {}  # the base's
    muon = {**values, "train.optimizer.name": "muon"}
    assert of.make_changes(muon) == muon
    # a model of all trials needs a value of each: the first where it does not apply, the nearest of a range
    assert of.place({"train.optimizer.name": "adamw"}) == {
        "train.optimizer.name": "adamw",
        "train.optimizer.muon.weight_decay": 0.0,
    }
    assert (of.place({**muon, "train.optimizer.muon.weight_decay": 0.5}) or {}).popitem()[1] == 0.1
    assert of.place({"train.optimizer.name": "adam"}) is None


def test_an_entry_takes_back_what_the_champion_changed():
    of = Space(contest(), {"train.warmup_steps": 7, "train.lr_decay": "constant"})
    assert of.entry({"train.warmup_steps": 3}) == {"train.warmup_steps": 3, "train.lr_decay": "cosine"}
    assert of.entry(dict(of.champion)) == {}


def test_what_is_running_is_not_proposed_again():
    of = space(space={"diffusion.loss.name": ["simple", "min_snr"], "train.learning_rate": {"low": 1e-3, "high": 1e-1}})
    losses = of.axes["diffusion.loss.name"]
    values = [{"diffusion.loss.name": losses[k % 2], "train.learning_rate": 0.01 + k / 500} for k in range(16)]
    past = [trial(of.contest, k, of.make_changes(each)) for k, each in enumerate(values)]
    alone = of.propose(past, [], 0)
    assert of.propose(past, [], 0) == alone
    assert of.propose(past, [alone], 0) != alone


def test_what_cannot_be_tried_is_not_proposed_for_ever(monkeypatch):
    """The model's favourite is beyond the budget: it is told so, and the next is another."""
    of = space(space={"train.learning_rate": {"low": 1e-3, "high": 1e-1}, "train.warmup_steps": [0, 3]})
    rates = [0.004 * (k + 1) for k in range(16)]
    past = [
        trial(of.contest, k, {"train.learning_rate": rate, "train.warmup_steps": 0}) for k, rate in enumerate(rates)
    ]
    favourite = of.propose(past, [], 0)
    check = Contest.check

    def refuse(self, changes, *others, **more):
        if changes == favourite:
            raise UserError("too much")
        return check(self, changes, *others, **more)

    monkeypatch.setattr(Contest, "check", refuse)
    assert of.propose(past, [], 0) != favourite
    monkeypatch.setattr(Contest, "check", lambda *_, **__: (_ for _ in ()).throw(UserError("too much")))
    monkeypatch.setattr(spaces, "IMPOSSIBLE", 3)
    with pytest.raises(UserError, match="space"):
        of.propose(past, [], 0)


def test_trials_that_were_seen_by_other_eyes_do_not_count():
    """Their panel would be another one."""
    of = contest()
    trials.add(of, trial(of, 1, {}))
    assert [len(Trials(one).read()) for one in (of, contest(unseen=["random_conv"]), contest(unseen=[]))] == [1, 0, 1]
    of = contest(unseen=["random_conv"], common={"evaluate.extractors": ["classifier", "random_conv"]})
    assert of.trial({}, 1)["evaluate"]["extractors"] == ["classifier"]


def test_a_new_ladder_needs_a_preset_and_images_enough(capsys):
    with pytest.raises(UserError, match="preset"):
        draft.write("mine", "nothing", {})
    with pytest.raises(UserError, match="a ladder is a file"):
        draft.write("ladders/mine", "photos_short", {})
    for number in range(20):
        Path(f"{number}.jpg").touch()
        Path(f"{number}.heic").touch()
    with pytest.raises(UserError, match="train split: 18 images are too few"):
        draft.write("mine", "photos_short", {"data.source": "."})
    assert " left out" in capsys.readouterr().err
    with pytest.raises(UserError, match="image_size: 30"):  # which no level of the network can halve
        draft.write("mine", "digits_small", {"data.image_size": 30})
    assert not [*FILE.parent.iterdir()]


@pytest.mark.parametrize(("base", "settings", "first"), [
    ("digits", {}, "classifier"), ("photos_small", {"data.source": "photos"}, "classifier"),
    ("photos_small", {"data.source": "photos/one"}, choose_extractor(1, 3)),  # without classes
])  # fmt: skip
def test_a_new_ladder_can_be_searched_by_several_eyes(base, settings, first):
    for number in range(240):
        path = Path("photos", ("one", "two")[number % 2], f"{number}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    path = draft.write("mine", base, settings)
    of = Space(climb.load(path), {})
    evaluate = of.contest.config.evaluate
    assert of.contest.terms.primary == metrics.PANEL
    assert evaluate.extractors == (first, "random_conv", "components")
    assert {"prc", "c2st"} <= {*evaluate.metrics}
    assert of.contest.terms.model_dump(mode="json")["common"].items() >= settings.items()
    changes = of.propose([], [], 0)
    assert of.contest.cost(changes) <= of.contest.limit
    starts = list(of.starts(search.list_ideas(of.contest)))
    assert len(starts) == 1 + len(of.contest.terms.ideas)
    with pytest.raises(UserError, match="exists"):
        draft.write("mine", base, settings)


@pytest.mark.slow
def test_every_preset_can_be_the_base_of_a_new_ladder():
    for number, base in enumerate(presets.names()):
        assert draft.write(f"mine-{number}", base, {}).exists()


LENGTHS = {"keys": ["train.steps"], "shares": [0.1]}


@pytest.mark.parametrize(("changes", "named"), [
    ({"space": {"train.learning_rat": [0.1, 0.2]}}, "train.learning_rat"),
    ({"space": {"train.optimizer.muon.speed": [1, 2]}}, "speed"),
    ({"space": {"train.optimizer.name": ["adamw", "lion"]}}, "train.optimizer"),
    ({"space": {"train.learning_rate": {"low": 1, "high": 0.1}}}, "low"),
    ({"space": {"train.learning_rate": 0.1}}, "train.learning_rate"),
    ({"space": {"train.learning_rate": {"low": 0, "high": 0.1, "log": True}}}, "low"),
    ({"space": {"model.classes": [0, 10]}}, "classes"),
    ({"space": {"train.learning_rate": {"low": 1.0e-3, "up": 0.1}}}, "up"),
    ({"space": {"train.learning_rate": []}}, "train.learning_rate"),
    ({"space": {"train.warmup_steps": "budget"}}, "train.warmup_steps"), ({"space": {}}, "space"),
    ({"space": {"sample.count": [1, 2]}}, "space: sample.count: ladders"),
    ({"lengths": LENGTHS | {"keys": ["train.nosuch"]}}, "train.nosuch"),
    ({"lengths": LENGTHS | {"keys": ["sample.count"]}}, "sample.count"),
    ({"lengths": LENGTHS | {"keys": ["train.lr_decay"]}}, "train.lr_decay"),
    ({"ideas": [{"train.learning_rat": 0.01}]}, "ideas: train.learning_rat"),
    ({"ideas": [{"train.lr": 0.01}]}, "'learning_rate'"),
    ({"ideas": [{"train": {"batch_size": 32}}]}, "train.batch_size"), ({"ideas": [{}]}, "ideas: {}"),
])  # fmt: skip
def test_what_cannot_be_searched_is_refused(changes, named):
    with pytest.raises(UserError, match=named):
        space(**changes)


def test_a_wheel_has_the_file_that_a_new_ladder_starts_from():
    project = (ROOT / "pyproject.toml").read_text()
    assert "ladder/new.yaml" in project
    ignored = subprocess.run(["git", "check-attr", "merge", "ladders/x/trials.jsonl"], cwd=ROOT, capture_output=True)
    assert b"union" in ignored.stdout
