"""Where a ladder's decisions turn: a guard's e-value, the seeds that decide, and the runs that make a finalist."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ddpm.ladder import outcome
from ddpm.ladder.log import End
from ddpm.verdicts import evidence
from ddpm.verdicts.evidence import PAIRS
from tests.ladders import contest

GUARD, ERROR = "random_conv.kid_mean", 0.05
pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(autouse=True)
def _ladders(folder) -> None:
    (folder / "ladders").mkdir()


def ends(gains: np.ndarray, losses: np.ndarray, fewest: int = 2, needed: float = 1e6) -> End:
    """How an attempt ends whose challenger gains in the score and loses in the guarded metric, by seed."""
    of = contest(base="digits_small_2026", guards=[GUARD], error=ERROR, seeds={"fewest": fewest, "most": 32})

    def side(scores: np.ndarray, guarded: np.ndarray) -> list[SimpleNamespace]:
        each = [{of.terms.primary: score, GUARD: guard} for score, guard in zip(scores, guarded, strict=True)]
        known = {"diverged": "", "samples": None}
        return [SimpleNamespace(name=f"run-{seed}", seed=seed, scores=one, **known) for seed, one in enumerate(each)]

    noise = 1e-6 * np.arange(len(gains))
    sides = side(0 * gains, 0.1 + noise), side(noise - gains, 0.1 + noise + losses)
    return outcome.judge(of, "a" * 16, PAIRS, needed, {}, *sides)[0]


def test_a_guard_refuses_at_the_seed_at_which_its_e_value_reaches_one_over_the_error():
    losses = 0.1 + 0.01 * np.arange(12)
    reached = int((evidence.log_e(losses - 0.0013) >= -math.log(ERROR)).argmax()) + 1
    end = ends(np.linspace(1, 2, 12), losses, needed=4)  # which the gains reach sooner, while the guard is in doubt
    assert (end.outcome, len(end.challenger)) == ("refused", reached)
    assert GUARD in end.reason


def test_a_loss_refuses_from_the_fewest_seeds_on_and_only_if_it_exceeds_all_gains_together():
    gains = np.linspace(1, 2, 32)
    gains[0] = -1.5
    assert ends(gains, np.zeros(32), fewest=3, needed=100).outcome == "accepted"
    assert (end := ends(gains, np.zeros(32), needed=100)).outcome == "refused"
    assert len(end.challenger) == 2
    assert evidence.collapses(np.array([-1.0, 0.5, 0.6, -1.05])).tolist() == [True, True, False, False]


def test_an_attempt_is_accepted_at_the_first_seed_that_decides_and_no_sooner():
    gains = np.linspace(1, 2, 32)
    needed = int((evidence.log_e(gains) >= math.log(1e6)).argmax()) + 1
    assert ends(gains[: needed - 1], np.zeros(needed - 1)).outcome == "undecided"
    assert ends(gains, np.zeros(32)).outcome == "accepted"
    assert len(ends(gains, np.zeros(32)).challenger) == needed
