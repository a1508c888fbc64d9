"""What a ladder's log and records decide: rungs, guards, and which of them count."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.ladder import attempt, climb, display, log, terms
from ddpm.ladder.climb import Attempt
from ddpm.ladder.log import End
from ddpm.verdicts.statistics import Array
from tests.ladders import BETTER, FILE, LOG, SCORE, attempted, finished, idea, ladder, state
from tests.ladders import log as lines
from tests.study_project import commit, git

ROWS = Path("ladders/tiny/rows.jsonl")


@pytest.fixture(autouse=True)
def _alone(folder) -> None:
    """A working folder with a ladder, in which nothing can run."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SCORE))


def test_the_champion_is_the_highest_rung():
    keys = [attempted("a", 0.5), attempted("bb", -0.5), attempted("ccc", 0.5)]
    assert [rung.key for rung in state().rungs] == [keys[0], keys[2]]
    assert state().champion.key == keys[2]
    assert state().changes == {"train.steps": 13}
    # the third attempt needs less than twice as much evidence as without the first rung
    assert state().attempts[2].needed < 1.2 * state().attempts[0].needed


def made(seed: int, scores: dict[str, float], samples: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(name=f"run-{seed}", seed=seed, diverged="", scores=scores, samples=samples)


def outcome(state: climb.Climb, before: Attempt, gains: Array, harm: Array | None = None) -> End:
    """How an attempt ends whose seeds have these gains, and these losses in the guarded metric, where 0.1 is usual."""
    harm = np.zeros(len(gains)) if harm is None else harm
    guard, zeros = "random_conv.kid_mean", np.zeros(len(gains))

    def records(scores: Array, losses: Array) -> list[SimpleNamespace]:
        pairs = enumerate(zip(scores.tolist(), (0.1 + losses).tolist(), strict=True))
        return [made(seed, {"classifier.fd": fd, guard: kid}) for seed, (fd, kid) in pairs]

    sides = {"champion": records(zeros, zeros), "challenger": records(-gains, harm)}
    end, decides = state.judge(before, SimpleNamespace(leading_records=sides.get))
    assert decides
    return end


def rung(**terms_of: object) -> tuple[climb.Climb, Attempt]:
    """A ladder with one rung."""
    FILE.write_text(yaml.safe_dump(SCORE | {"error": 0.05, "seeds": {"fewest": 6, "most": 32}} | terms_of))
    attempted("a", 0.5)
    climbed = state()
    return climbed, climbed.rungs[0]


@pytest.mark.parametrize(("noise", "harm", "accepted"), [(0.3, 0.0, 0.97), (0.1, 0.0, 0.97), (0.02, 0.05, 0.05)])
def test_a_guard_refuses_what_does_no_harm_as_rarely_as_it_says(noise, harm, accepted):
    """noise, harm: of the guarded metric, as shares of its mean."""
    climbed, first = rung(guards=["random_conv.kid_mean"])
    random = np.random.default_rng(0)
    gains = random.standard_normal((100, 32)) + 3
    losses = 0.1 * (harm + noise * 2**0.5 * random.standard_normal((100, 32)))
    ends = [outcome(climbed, first, *one).outcome for one in zip(gains, losses, strict=True)]
    share = ends.count("accepted") / len(ends)
    assert share >= accepted if harm == 0 else share <= accepted


@pytest.mark.parametrize("side", ["champion", "challenger"])
@pytest.mark.parametrize("same", ["samples", "scores"])
def test_runs_that_ignore_the_seed_are_refused(side, same):
    climbed, first = rung()
    scores = [{"classifier.fd": 1.0, "classifier.kid_mean": 0.1, "classifier.is_mean": 5.0 + seed} for seed in range(6)]
    sides = {arm: [made(seed, of) for seed, of in enumerate(scores)] for arm in ("champion", "challenger")}
    again = {"samples": "a" * 64} if same == "samples" else {"scores": scores[0]}
    sides[side][5] = SimpleNamespace(**vars(sides[side][5]) | again)
    sides[side][0] = SimpleNamespace(**vars(sides[side][0]) | again)
    with pytest.raises(UserError, match="under seeds 0 5"):
        climbed.judge(first, SimpleNamespace(leading_records=sides.get))


def test_a_loss_as_large_as_all_gains_refuses_an_entry():
    climbed, first = rung()
    steady = 0.5 + 0.01 * np.arange(32)
    assert outcome(climbed, first, np.where(np.arange(32) == 4, -19.0, steady)).outcome == "refused"
    # a loss that the gains outweigh does not
    assert outcome(climbed, first, np.where(np.arange(32) == 4, -1.0, steady)).outcome == "accepted"


@pytest.mark.parametrize(("evidence", "seeds"), [({}, 12), ({"evidence": "pairs"}, 12), ({"evidence": "ranks"}, 7)])
def test_an_attempt_is_decided_by_the_evidence_that_its_line_names(evidence, seeds):
    """So attempts from before ranks, of which one may be open, are judged as they were."""
    FILE.write_text(yaml.safe_dump(SCORE | {"error": 0.05}))
    attempted("search-1", 0.5, **evidence)
    (rung,) = state().rungs
    shown = display.to_dict(state(), rung)
    assert (shown["seeds"], shown["e"] >= shown["threshold"]) == (seeds, True)
    assert 0.4 < shown["low"] < shown["estimate"] < shown["high"] < 0.6
    assert shown["collapse_rate"] == pytest.approx(1 - 0.05 ** (1 / seeds))


@pytest.mark.parametrize(("name", "kind"), [("search-1", {"kind": "target", "target": 0.9}), ("a", {})])
def test_no_line_chooses_the_evidence_that_assumes_more(name, kind):
    FILE.write_text(yaml.safe_dump(SCORE | kind))
    with pytest.raises(UserError, match="evidence: ranks"):
        attempted(name, 0.5, evidence="ranks")


def test_before_an_attempt_has_ended_there_is_no_picture():
    attempted("a", 0.5)
    LOG.write_text(LOG.read_text().splitlines()[0] + "\n")
    assert [type(block).__name__ for block in display.chapters(state())[0].blocks] == ["Note"] * 3 + ["Table"]


def test_the_picture_has_a_point_for_the_base_and_for_every_attempt(tmp_path):
    """Also for the many that ended too early for an interval."""
    attempted("a", 0.5)
    for count in range(4):
        attempted("refused" + "d" * count, -0.5)
    figure = display.chapters(state())[0].blocks[-1]
    rungs = figure.drawing.keywords["panels"][0].curves["rungs"]
    assert rungs[:, :2] == pytest.approx(np.array([[0, 1], [1, 0.5]]), abs=1e-4)
    figure.drawing(tmp_path / "climb.png")
    with Image.open(tmp_path / "climb.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert (pixels == 0x88).all(axis=-1).sum() > 4 * 16
    # the champion's scores on the seeds of each entry that was refused
    again = figure.drawing.keywords["panels"][0].curves[display.AGAIN]
    assert again[:, :2].tolist() == [[2 + count, 1] for count in range(4)]


LONG = {"keys": ["train.steps"], "factor": 4}


@pytest.mark.parametrize(("gain", "rungs"), [(0.5, 1), (-0.5, 0)])
def test_a_rung_holds_at_the_longer_training_too(gain, rungs):
    FILE.write_text(yaml.safe_dump(SCORE | {"long": LONG}))
    contest, short = climb.load(FILE), attempted("a", 0.5)
    assert (state().due.key, state().rungs, lines()[-1]["outcome"]) == (short, [], "accepted")
    with climb.hold(contest) as held:
        begin = held.open.begin
    with climb.hold(contest) as held:  # once
        assert (held.open.begin, len(held.attempts)) == (begin, 2)
    assert (begin.long, begin.changes, begin.on) == (True, {"train.steps": 11}, "")
    runs = held.runs(held.open)
    assert {run.arm: run.params["train"]["steps"] for run in runs.planned} == {"champion": 4000, "challenger": 44}
    assert held.open.first_seed != held.find(short).first_seed
    held = finished(gain)
    assert [one.key for one in held.rungs] == [held.attempts[1].key][:rungs]
    assert (held.due, held.attempts[1].cost) == (None, 4 * held.attempts[0].cost)
    shown = [display.to_dict(held, one) for one in held.attempts]
    assert [(one["outcome"], one["length"], one["rung"]) for one in shown] == [
        ("accepted", 1, None), ("accepted" if rungs else "refused", 4, 1 if rungs else None),
    ]  # fmt: skip
    *_, table, figure = display.chapters(held)[0].blocks
    assert [row[1] for row in table.rows] == ["a", "a, 4 times as long"]
    first, second = figure.drawing.keywords["panels"]
    assert [*first.curves] == ["rungs"]
    assert len(second.curves["rungs"]) == 1 + rungs
    # the next is on the rung, if it is one
    attempted("bb", -0.5)
    assert state().attempts[-1].begin.on == held.on


def test_a_longer_training_cannot_be_passed_over_added_or_made_up(capsys):
    attempted("a", 0.5)
    FILE.write_text(yaml.safe_dump(SCORE | {"long": LONG}))
    assert ladder("show", "tiny") == 2
    assert "the terms of" in capsys.readouterr().err
    LOG.unlink()
    ROWS.unlink()
    attempted("a", 0.5)
    forged = [{"long": False}, {"long": True, "changes": {"train.steps": 12}}]
    before = LOG.read_text()
    for more in forged:
        line = lines()[0] | {"before": state().tip, "nonce": "1" * 16} | more
        LOG.write_text(before + json.dumps(line) + "\n")
        assert ladder("show", "tiny") == 2
        assert "long: " in capsys.readouterr().err
        LOG.write_text(before)


@pytest.mark.parametrize(("changes", "named"), [
    ({"kind": "target", "target": 1.0}, "long"), ({"long": LONG | {"factor": 1}}, "long.factor"),
    ({"long": LONG | {"keys": ["sample.sampler"]}}, "sample.sampler"), ({"long": LONG | {"keys": ["seed"]}}, "seed"),
    ({"long": LONG | {"keys": ["train.nosuch"]}}, "train.nosuch"), ({"long": LONG | {"keys": []}}, "long.keys"),
])  # fmt: skip
def test_a_longer_training_that_cannot_be_is_refused(capsys, changes, named):
    FILE.write_text(yaml.safe_dump(SCORE | {"long": LONG} | changes))
    assert ladder("show", "tiny") == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("change", ["edit", "remove", "swap", "no such attempt", "cut", "not JSON", "another key"])
def test_a_log_that_was_changed_is_noticed(capsys, change):
    attempted("a", 0.5)
    attempted("bb", -0.5)
    lines = LOG.read_text().splitlines()
    changed = {
        "edit": [lines[0].replace('"a"', '"c"'), *lines[1:]],
        "remove": [lines[0], *lines[2:]],
        "swap": [*lines[2:], *lines[:2]],
        "no such attempt": [*lines, lines[3].replace(json.loads(lines[3])["before"], files.digest(lines[3])[:16])],
        "cut": [*lines[:-1], lines[-1][:-5]],
        "not JSON": [*lines, "<<<<<<< HEAD"],
        "another key": [*lines, lines[-1].replace('"reason"', '"raison"')],
    }[change]
    LOG.write_text("".join(f"{line}\n" for line in changed))
    assert ladder("show", "tiny") == 2
    assert "log.jsonl: " in capsys.readouterr().err


def test_an_end_without_its_runs_does_not_count(capsys):
    key = attempted("a", 0.5)
    whole = ROWS.read_text()
    *others, last = whole.splitlines(keepends=True)
    # a row of another score, one of a header with another recipe, half of one, none, and another one's
    for damaged in (
        [*others, last.replace('"classifier.fd":0.49', '"classifier.fd":0.39')],
        [line.replace('"train.steps":11', '"train.steps":99') for line in whole.splitlines(keepends=True)],
        [*others[:-1], others[-1][:100], "\n", last],
        others,
        [*others, last, last.replace(key, "0" * 16)],
    ):
        ROWS.write_text("".join(damaged))
        assert ladder("show", "tiny") == 2
        assert str(ROWS) in capsys.readouterr().err
    ROWS.write_text(whole)
    assert ladder("show", "tiny") == 0
    assert not Path("ladders/tiny/climb.png").exists()  # to draw takes longer than to show


@pytest.mark.parametrize(
    ("gain", "harm", "given", "written"),
    [
        (-0.5, 0.0, "refused", "accepted"),
        (-0.5, 0.0, "refused", "undecided"),
        (-0.5, 0.0, "refused", "withdrawn"),  # which has no scores
        (0.5, 0.0, "accepted", "refused"),
        (0.5, 0.1, "refused", "accepted"),  # by a guard
    ],
)
def test_an_end_that_its_records_do_not_give_is_refused(capsys, gain, harm, given, written):
    FILE.write_text(yaml.safe_dump(SCORE | {"guards": ["random_conv.kid_mean"]}))
    attempted("a", gain, harm)
    assert state().attempts[0].outcome == given
    LOG.write_text(LOG.read_text().replace(f'"outcome": "{given}"', f'"outcome": "{written}"'))
    for command in (["show", "tiny"], ["try", "tiny", idea("better", BETTER)]):
        assert ladder(*command) == 2
        assert "log.jsonl: the end of a" in capsys.readouterr().err


def test_an_end_before_its_records_decide_is_refused():
    with pytest.raises(UserError, match="the end of a"):
        attempted("a", 0.5, most=3)


def test_an_attempt_whose_lines_were_cut_off_is_found_by_its_runs(capsys):
    attempted("a", -0.5)
    LOG.unlink()
    assert ladder("show", "tiny") == 2
    assert "does not have" in capsys.readouterr().err


def test_what_git_has_of_a_log_stays_in_it(capsys, tmp_path):
    """Of the last commit, and of the branch from which others pull."""
    git("init", "--quiet", "--initial-branch=main")
    attempted("a", -0.5)
    commit("an attempt")
    git("init", "--quiet", "--bare", str(tmp_path / "shared"))
    git("remote", "add", "origin", str(tmp_path / "shared"))
    attempted("bb", -0.5)
    with pytest.raises(UserError, match=LOG.name):
        attempt.check_committed(climb.load(FILE))
    commit("another")
    git("push", "--quiet", "--set-upstream", "origin", "main")
    ROWS.unlink()
    LOG.unlink()
    assert ladder("show", "tiny") == 2
    assert "HEAD" in capsys.readouterr().err
    git("reset", "--quiet", "--hard", "HEAD~1")
    assert ladder("show", "tiny") == 2
    assert "origin/main" in capsys.readouterr().err
    git("pull", "--quiet")
    assert ladder("show", "tiny") == 0
    attempt.check_committed(climb.load(FILE))


def test_a_rung_that_is_worse_than_a_gaussian_says_so():
    attempted("a", 0.05)
    attempted("bb", 0.5)
    shown = [display.to_dict(state(), one) for one in state().rungs]
    assert [one["gaussian"] for one in shown] == pytest.approx([0.9, 0.9])
    assert ["Gaussian" in one["reason"] for one in shown] == [True, False]


def test_a_champion_that_diverges_ends_the_attempt_undecided():
    climbed, first = rung()
    sides = {
        arm: [made(seed, {"classifier.fd": 2.0 + seed}) for seed in range(3)] for arm in ("champion", "challenger")
    }
    sides["champion"][2] = SimpleNamespace(**vars(made(2, {})) | {"diverged": "the loss is not finite"})
    end, decides = climbed.judge(first, SimpleNamespace(leading_records=sides.get))
    assert (decides, end.outcome, len(end.challenger)) == (True, "undecided", 2)
    assert "the champion, seed 2" in end.reason


@pytest.mark.parametrize("change", [{"error": 0.1}, {"base": "digits"}, {"common": {"compare.threshold": 0.9}}])
def test_a_ladder_that_has_moved_is_refused(capsys, change):
    attempted("a", 0.5)
    FILE.write_text(yaml.safe_dump(SCORE | {"question": "Reworded?"}))
    state()
    FILE.write_text(yaml.safe_dump(SCORE | change))
    assert ladder("try", "tiny", idea("better", BETTER)) == 2
    assert "since an attempt" in capsys.readouterr().err


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


@pytest.mark.parametrize(("key", "line"), [
    ("evaluate.kid_subsets", {"changes": {"train.steps": 11, "evaluate.kid_subsets": 7}}),
    ("data.test_fraction", {"changes": {"train.steps": 11, "data.test_fraction": 0.5}}),
    ("sample.count", {"changes": {"train.steps": 11, "sample.count": 400}}),
    ("costs", {"changes": {"train.batch_size": 10_000}, "cost": 1.0}),
    ("evaluations", {"changes": {"sample.steps": 1000}}),
    ("train.epochs", {"changes": {"train.steps": None, "train.epochs": 1}}),
    ("line 1: chooses its seeds", {"seed": 1}),
    ("line 1: chooses its seeds", {"nonce": "", "number": 7}),
    ("another champion", {"on": "rung"}),
])  # fmt: skip
def test_a_line_that_try_would_not_write_is_refused_in_a_fresh_clone(capsys, monkeypatch, tmp_path, key, line):
    git("init", "--quiet")
    FILE.write_text(yaml.safe_dump(SCORE | {"may_change": [*SCORE["may_change"], "sample.steps"]}))
    if line == {"on": "rung"}:
        attempted("first", 0.5)
        line = {"on": ""}
    with monkeypatch.context() as forger:
        forger.setattr(terms.Contest, "check", lambda *_: 1.0)
        forger.setattr(log, "OLDER", _Everything())
        forger.setattr(climb.Climb, "on", "")
        attempted("mine", 0.5, **line)
        assert ladder("show", "tiny") == 0
    commit("mine")
    git("clone", "--quiet", ".", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    for command in ("show", "audit"):
        assert ladder(command, "tiny") == 2
        assert key in capsys.readouterr().err
