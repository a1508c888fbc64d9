"""``ddpm ladder``: what may be tried, and whole attempts, on a project with stages that take no time."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ddpm.arms import revision
from ddpm.base.errors import UserError
from ddpm.ladder import attempt, climb
from ddpm.params import config, presets
from ddpm.runs.record import Record
from ddpm.runs.rows import Rows
from tests import study_project
from tests.ladders import BETTER, FILE, LOG, NOISE, SCORE, SEARCH, WORSE, idea, ladder, log, state
from tests.pages import Page
from tests.study_project import commit, git, ran, rewrite

ROWS = Path("ladders/tiny/rows.jsonl")

LONG = {"keys": ["train.steps"], "factor": 4}
LENGTHS = {"keys": ["train.steps", "train.warmup_steps"], "shares": [0.1, 0.3]}
TARGET = SCORE | {
    "kind": "target",
    "target": 1.9,
    "guards": ["random_conv.kid_mean", "memorisation"],
}
FEW = SCORE | {"seeds": {"fewest": 2, "most": 4}}  # for the evidence


@pytest.fixture(autouse=True)
def _alone(folder) -> None:
    """A working folder with a ladder, in which nothing can run."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SCORE))


@pytest.fixture
def project(project) -> None:
    """With ladders of both kinds."""
    stage = Path("stages/__main__.py")
    before, _, after = stage.read_text().partition("    score = ")
    text = f"{before}{NOISE[1:]}{after.partition(chr(10))[2]}"
    stage.write_text(text.replace('{"classifier.fd": score}', '{"classifier.fd": score, **extra}'))
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SCORE))
    FILE.with_name("cheap.yaml").write_text(yaml.safe_dump(TARGET))
    with Path(".gitignore").open("a") as ignored:
        ignored.write("/ladders/*/rows.locks/\npage.html\n")
    commit("two ladders")


def tried(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    """The exit code, and what is printed for programs."""
    capsys.readouterr()
    code = ladder(*arguments, "--json")
    said = capsys.readouterr()
    assert code != 2, said.err
    return code, json.loads(said.out)


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_a_ladder_of_scores_is_climbed_and_shown(capsys):
    code, refused = tried(capsys, "try", "tiny", idea("worse", WORSE))
    assert (code, refused["outcome"], refused["seeds"]) == (1, "refused", 3)
    page = Page(Path("ladders/tiny/page.html").read_text())
    assert "refused" in page.text
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "alt")]
    assert pictures[:3] == ["real images", "champion", "challenger"]
    assert ladder("try", "tiny", idea("better", BETTER)) == 2
    assert "log.jsonl: " in capsys.readouterr().err
    commit("an attempt")
    code, rung = tried(capsys, "try", "tiny", idea("better", BETTER))
    assert (code, rung["outcome"], rung["rung"]) == (0, "accepted", 1)
    assert rung["e"] >= rung["threshold"] > refused["threshold"]
    assert 0 < rung["low"] < 0.5 < rung["high"]
    # both sides ran on the same fresh seeds, which no other attempt has; the end of each attempt may have stopped one
    # side of the seed after its last
    records = [name.split("-")[2:] for name in Rows(ROWS).records]
    champion, challenger = ({seed for name, seed in records if name == arm} for arm in ("champion", "challenger"))
    assert len(champion ^ challenger) <= 2
    assert 3 + rung["seeds"] <= len(champion & challenger)
    assert Path("ladders/tiny/climb.md").read_text().count("| accepted | 1 |") == 1
    assert Path("ladders/tiny/climb.png").stat().st_size > 1000
    # the params of a run are those of its record, which can be made again
    commit("a rung")
    name, of = next((name, run) for name, run in Rows(ROWS).records.items() if "-challenger-" in name)
    _, key, run = name.split("-", 2)
    assert ladder("params", "tiny", f"{key}/{run}") == 0
    params = config.load().flat()
    assert (params["seed"], {key: params[key] for key in of.params if key in params}) == (of.seed, of.params)
    git("checkout", "params.yaml")
    for name in ("trial-0", run, f"{key}/champion-0"):
        assert ladder("params", "tiny", name) == 2
    assert ladder("audit", "tiny", "-n", "2") == 0
    rewrite(ROWS, lambda run: run | {"scores": run["scores"] | {"random_conv.kid_mean": 0.5}})
    assert ladder("audit", "tiny", "-n", "1") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_a_target_is_reached_at_less_cost_and_guards_refuse(capsys):
    steps = yaml.safe_load(presets.text("digits_small_2026"))["train"]["steps"]
    code, guarded = tried(capsys, "try", "cheap", idea("small", BETTER | {"train.batch_size": 32}))
    assert (code, guarded["seeds"]) == (1, 2)
    assert "random_conv.kid_mean" in guarded["reason"]
    commit("an attempt")
    # the base was scored once for the guard, and the champion does not run again
    code, diverged = tried(capsys, "try", "cheap", idea("fast", {"train.steps": steps - 1, "train.learning_rate": 0.9}))
    assert (code, diverged["seeds"]) == (1, 0)
    assert "train: " in str(diverged["reason"])
    commit("an attempt")
    code, rung = tried(capsys, "try", "cheap", idea("short", BETTER | {"train.steps": steps // 2}))
    assert (code, rung["rung"]) == (0, 1)
    assert {line.split()[1] for line in ran() if line.startswith("train")} == {"cosine", "sigmoid"}
    assert sum(line.startswith("evaluate cosine") for line in ran()) == 6
    base = next(name for name in Rows(Path("ladders/cheap/rows.jsonl")).records if "-base-" in name)
    assert ladder("params", "cheap", f"base/{base.removeprefix('cheap-base-')}", "--force") == 0
    commit("a rung")
    # the next has to be cheaper than the new champion
    assert ladder("try", "cheap", idea("long", {"train.steps": steps // 2 + 1})) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_an_attempt_that_is_killed_continues_with_the_code_of_its_runs_and_runs_nothing_twice(capsys):
    first, stage, entry = git("rev-parse", "HEAD"), Path("stages/__main__.py"), idea("better", BETTER)
    Path("control/sleep").write_text("0.3")
    process = study_project.start("try", "tiny", entry, "--slots", "2", group=("ladder",))
    end = time.monotonic() + 300

    def runs() -> dict[str, Record]:
        return {name.split("-", 2)[2]: run for name, run in Rows(ROWS).records.items()}

    while len(runs()) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    time.sleep(1)  # a run that was about to end may do so before it notices
    done = {*runs()}
    Path("control/sleep").unlink()
    assert len(log()) == 1
    # the first of the plan: another machine may have finished others
    lost = min(name for name in done if name.startswith("champion"))
    rewrite(ROWS, lambda run: None if run["name"].endswith(lost) else run)
    stage.write_text(stage.read_text().replace("score = 2 +", "score = 7 +"))
    commit("other code, which scores otherwise")
    assert ladder("try", "tiny", entry, "--slots", "2") == 2
    assert f"`--commit {first[:10]}`" in capsys.readouterr().err
    assert {*runs()} == done - {lost}
    assert ladder("try", "tiny", entry, "--slots", "2", "--commit", first[:10]) == 0
    assert ["of" in line for line in log()] == [False, True]
    arms = {"champion": "cosine", "challenger": "sigmoid"}
    for arm, _, seed in (name.partition("-") for name in done - {lost}):
        assert ran().count(f"evaluate {arms[arm]} {seed}") == 1
    assert done < {*runs()}
    assert {run.revision for run in runs().values()} == {first}
    assert max(run.scores["classifier.fd"] for run in runs().values()) < 3


@pytest.mark.usefixtures("project")
def test_images_that_cannot_be_scored_are_refused_before_anything_runs_or_is_spent(capsys):
    Path("pictures").mkdir()
    for at in range(300):  # of no class
        Image.new("L", (8, 8), at % 256).save(f"pictures/{at}.png")
    commands = ("search", "tiny", "--trials", "8"), ("try", "tiny", idea("better", BETTER))
    for source, named in (("nowhere", "'nowhere'"), ("pictures", "'classifier' needs")):
        common = {"data.dataset.name": "image_folder", "data.source": source}
        FILE.write_text(yaml.safe_dump(SEARCH | {"common": common}))
        commit("a ladder of pictures")
        for command in commands:
            assert ladder(*command) == 2
            assert named in capsys.readouterr().err.splitlines()[-1]
    assert not {file.name for file in LOG.parent.glob("*")} & {"log.jsonl", "trials.jsonl", "rows.jsonl"}


@pytest.mark.parametrize(("changes", "key"), [
    ({"kind": "best"}, "kind"), ({"kind": "target"}, "target"), ({"target": 0.2}, "target"),
    ({"primary": "classifier.ff"}, "classifier.ff"), ({"guards": ["nothing"]}, "nothing"),
    ({"guards": ["nothing.kid_mean"]}, "guards"),
    ({"guards": ["classifier.clipped_density"]}, "classifier.clipped_density"),
    ({"may_change": ["evaluate"]}, "may_change"), ({"may_change": ["sample"]}, "may_change"),
    ({"error": 1}, "error"), ({"seeds": {"fewest": 9, "most": 8}}, "seeds"),
    ({"base": "nothing"}, "preset"), ({"unseen": ["classifier"]}, "unseen"),
    ({"colour": "red"}, "colour"), ({"common": {"sample.count": 2}}, "sample.count"),
    ({"common": {"device": "cuda:1"}}, "device: cuda:1 "),
    ({"kind": "target", "target": 1.0, "long": LONG}, "long"), ({"long": LONG | {"factor": 1}}, "long.factor"),
    ({"long": LONG | {"keys": ["sample.sampler"]}}, "sample.sampler"), ({"long": LONG | {"keys": ["seed"]}}, "seed"),
    ({"long": LONG | {"keys": ["train.nosuch"]}}, "train.nosuch"), ({"long": LONG | {"keys": []}}, "long.keys"),
    ({"lengths": LENGTHS | {"shares": [0.3, 0.1]}}, "lengths"), ({"lengths": LENGTHS | {"keys": []}}, "lengths"),
    ({"lengths": LENGTHS | {"shares": [0.1, 1.0]}}, "lengths.shares"),
    ({"kind": "target", "target": 1.0, "lengths": LENGTHS}, "lengths"),
])  # fmt: skip
def test_a_ladder_that_cannot_be_climbed_is_refused(changes, key):
    FILE.write_text(yaml.safe_dump(SCORE | changes))
    with pytest.raises(UserError, match=key):
        climb.load(FILE)


@pytest.mark.parametrize(("changes", "key"), [
    ({"model.base_channels": 8}, "model.base_channels"), ({"seed": 1}, "seed"),
    ({"train.batch_size": 10_000}, "costs"), ({"sample.sampler.name": "heun"}, "evaluations"),
    ({"train.steps": None, "train.epochs": 1}, "train.epochs"),
    ({"train.start_from": "model.safetensors@" + "0" * 64}, "train.start_from"),
    ({"diffusion.schedule.name": "cosine"}, "changes nothing"), ({}, "changes nothing"),
    ({"diffusion.schedule.name": "cosinus"}, "diffusion.schedule"),
    ({3: 4}, "KEY: VALUE"), ([1], "is a list"), (TARGET, "costs"), (FEW, "seeds.most"),
])  # fmt: skip
def test_an_entry_that_may_not_try_spends_nothing(capsys, monkeypatch, changes, key):
    monkeypatch.setattr(revision, "find", lambda _: "")
    monkeypatch.setattr(revision, "check_committed", lambda *_: None)
    if changes in (TARGET, FEW):
        FILE.write_text(yaml.safe_dump(changes))
        changes = BETTER
    assert ladder("try", "tiny", idea("entry", changes)) == 2
    assert key in capsys.readouterr().err
    assert not LOG.exists()


def test_two_ladders_cannot_have_one_name(capsys):
    for name in ("other/tiny.yaml", "ladders/tiny.yml", "ladders/deep/tiny.yaml", "ladders/Tiny.yaml", "none"):
        assert ladder("show", name) == 2
        assert "ladder" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_seeds_are_drawn_when_an_attempt_begins():
    contest, changes = climb.load(FILE), {"train.steps": 11}
    seeds = []
    for _ in range(2):
        attempt.begin(contest, "a", changes, source="a.yaml", say=print)
        seeds += [one.first_seed for one in state().attempts]
        LOG.unlink()
        git("update-ref", "-d", "refs/ddpm/ladders/tiny")
    assert len({*seeds, contest.seed(changes, 1)}) == 3
    assert max(seeds) < 2**40


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("way", [
    [("clean", "--force", "-d", "ladders")],
    [("add", "."), ("commit", "-m", "x"), ("rm", "-r", str(LOG)), ("commit", "--amend", "--allow-empty", "-m", "x")],
], ids=["clean", "amend"])  # fmt: skip
def test_git_gives_no_free_retry(capsys, way):
    contest = climb.load(FILE)
    key = attempt.begin(contest, "better", BETTER, source="better.yaml", say=print).key
    for command in way:
        git(*command)
    assert not LOG.exists()
    assert ladder("try", "tiny", idea("better", BETTER)) == 2
    assert f"`git show refs/ddpm/ladders/tiny > {LOG}`" in capsys.readouterr().err
    assert ran() == []
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(git("show", "refs/ddpm/ladders/tiny") + "\n")
    assert attempt.begin(contest, "better", BETTER, source="better.yaml", say=print).key == key


@pytest.mark.usefixtures("project")
def test_nothing_is_read_written_or_spent_by_links_out_of_the_repository(capsys, tmp_path):
    (outside := tmp_path / "outside").mkdir()
    better = idea("better", BETTER)
    for link, says in ((Path(".ddpm"), ".ddpm: is in git"), (LOG.parent, f"{LOG.parent}: is a link out")):
        link.symlink_to(outside)
        commit("a link")
        for command in (("show", "tiny"), ("try", "tiny", better), ("search", "tiny", "--trials", "4")):
            assert ladder(*command) == 2
            assert says in capsys.readouterr().err
        link.unlink()
        commit("no link")
    assert not [*outside.iterdir()]
    assert not LOG.exists()


@pytest.mark.usefixtures("project")
def test_an_attempt_that_is_withdrawn_makes_room_and_its_share_stays_spent(capsys):
    contest = climb.load(FILE)
    assert ladder("withdraw", "tiny") == 2
    assert ladder("try", "tiny", idea("better", BETTER), "--commit", "typo") == 2
    assert not LOG.exists()
    first = attempt.begin(contest, "worse", WORSE, source="worse.yaml", say=print)
    assert ladder("try", "tiny", idea("better", BETTER)) == 2
    assert "ladder withdraw tiny" in capsys.readouterr().err
    code, shown = tried(capsys, "withdraw", "tiny")
    assert (code, shown["outcome"], shown["seeds"], shown["rung"]) == (3, "withdrawn", 0, None)
    commit("withdrawn")
    second = attempt.begin(contest, "better", BETTER, source="better.yaml", say=print)
    assert (second.number, second.needed > first.needed) == (2, True)


@pytest.mark.usefixtures("project")
def test_one_entry_tried_by_several_at_once_is_one_attempt():
    contest = climb.load(FILE)
    with ThreadPoolExecutor(4) as pool:
        begun = [pool.submit(attempt.begin, contest, "a", BETTER, source="a.yaml", say=print) for _ in range(4)]
    assert len({each.result().key for each in begun}) == len(log()) == 1
