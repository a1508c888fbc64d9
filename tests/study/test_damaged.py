"""A row that is not one of the study's is left out with its place and the reason; the others are judged."""

import pytest

from ddpm.runs import rows
from ddpm.study import judging, loading
from ddpm.study.ledger import open_ledger
from tests.study_project import PLAN, ROWS, change, records, remove, study

TINY = str(PLAN)
NAME = "linear-1"


@pytest.fixture(autouse=True)
def _finished(lab) -> None:
    ledger = open_ledger(loading.load(PLAN))
    assert not judging.complete(ledger, ledger.study.lines(), 1, lambda _: None)


def again(**values: object) -> None:
    """Append the same run, with other values."""
    rows.append(ROWS, records()[NAME] | {"name": f"tiny-{NAME}"} | values)


DAMAGE = {
    "other scores": (lambda: again(scores={"classifier.fd": 1.0}), f"contradicts {ROWS}:"),
    "no record": (lambda: again(scores={}), "not a run's record"),
    "another plan": (lambda: change(NAME, plan="0" * 64), "another plan"),
    "another arm": (lambda: change(NAME, params=records()["cosine-1"]["params"]), "another diffusion.schedule"),
    "without the primary metric": (lambda: change(NAME, scores={"classifier.kid_mean": 0.1}), "classifier.fd"),
    "diverged": (lambda: change(NAME, diverged="the loss is not finite", scores={}), "diverged"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_one_that_is_damaged_is_left_out(damage, reason, capsys):
    whole = records()
    damage()
    damaged = ROWS.read_text()
    judgement = judging.judge(open_ledger(loading.load(PLAN)))
    assert [[*arm.runs] for arm in judgement.arms] == [[0, 1], [0]]
    [note] = [note for note in judgement.notes if note.startswith(f"left out: {ROWS}:")]
    assert reason in note
    assert study("run", TINY, "--line", "4") == 1  # neither taken for a finished one nor overwritten
    assert f"{ROWS}:" in capsys.readouterr().err
    assert ROWS.read_text() == damaged
    remove(NAME)  # then it runs again
    assert study("run", TINY, "--line", "4") == 0
    assert records().keys() == whole.keys()
    assert records()[NAME]["scores"] == whole[NAME]["scores"]
