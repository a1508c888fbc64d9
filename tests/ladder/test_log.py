"""A ladder's log: of two clones, and of the ladders in this repository."""

import shutil
from pathlib import Path

import pytest
import yaml

from ddpm.base.errors import UserError
from ddpm.ladder import attempt, climb, log, outcome
from ddpm.verdicts.evidence import RANKS
from tests.ladders import FILE, LOG, SCORE, attempted, ladder, state
from tests.study_project import commit, git

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _alone(folder) -> None:
    """A working folder with a ladder, in which nothing can run."""
    FILE.parent.mkdir()
    FILE.write_text(yaml.safe_dump(SCORE))


def test_of_two_clones_that_tried_at_the_same_time_the_second_tries_again(capsys, monkeypatch, tmp_path):
    git("init", "--quiet", "--initial-branch=main")
    shutil.copy(Path(__file__).parents[2] / ".gitattributes", ".gitattributes")
    commit("a ladder")
    git("init", "--quiet", "--bare", "--initial-branch=main", str(tmp_path / "shared"))
    git("remote", "add", "origin", str(tmp_path / "shared"))
    git("push", "--quiet", "--set-upstream", "origin", "main")
    git("clone", "--quiet", str(tmp_path / "shared"), str(tmp_path / "second"))
    attempted("a", 0.5)
    with pytest.raises(UserError, match=LOG.name):
        attempt.check_committed(climb.load(FILE))
    commit("the first")
    attempt.check_committed(climb.load(FILE))
    shutil.rmtree(LOG.parent)  # of an attempt that was committed
    with pytest.raises(UserError, match="HEAD"):
        state()
    git("checkout", "ladders")
    git("push", "--quiet")
    monkeypatch.chdir(tmp_path / "second")
    attempted("bb", 0.5)
    commit("the second")
    git("fetch", "--quiet")  # what others have pushed
    with pytest.raises(UserError, match="upstream"):
        state()
    with pytest.raises(AssertionError, match="pull"):
        git("pull", "--no-rebase")
    assert ladder("show", "tiny") == 2
    assert "log.jsonl: " in capsys.readouterr().err
    git("checkout", "MERGE_HEAD", "--", "ladders/tiny")
    commit("what the first tried")
    assert [one.begin.entry for one in state().rungs] == ["a"]
    attempted("bb", 0.5)
    assert [one.begin.entry for one in state().rungs] == ["a", "bb"]


def test_a_second_attempt_does_not_begin_before_the_first_ended():
    """So a thousand lines, merged from anybody, do not use up a ladder's error."""
    attempted("a", 0.5)
    line = state().attempts[0].begin
    for number in range(2):
        again = {"entry": f"more-{number}", "before": state().tip, "on": state().on}
        log.append(climb.load(FILE), line.model_copy(update=again))
    with pytest.raises(UserError, match="before the last attempt ended"):
        state()


@pytest.mark.parametrize("path", sorted(ROOT.glob("ladders/*.yaml")), ids=lambda path: path.stem)
def test_each_shipped_ladder_has_a_log_that_can_be_read(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    contest = climb.load(path.relative_to(ROOT))
    read = climb.read(contest)
    for one in read.attempts:  # also those of before the reader checked
        assert contest.check(one.begin.changes, one.before, "log", True) == one.cost
    for rung in (one for one in read.rungs if contest.terms.kind == "score" and one.begin.evidence == "pairs"):
        look = RANKS.look(
            *outcome.scores(contest, rung.end), rung.needed, contest.terms.seeds.fewest, contest.terms.seeds.most
        )
        assert look.accepts.argmax() + 1 in {7, 8}  # docs/ladder.md
        assert not look.hopeless.any()
