"""What a study says before its first look: that all arms are worse than a Gaussian, and how long to train."""

from pathlib import Path

import pytest

from ddpm.study import status
from tests import study_project
from tests.study_project import PLAN, RESULTS, study

pytestmark = pytest.mark.usefixtures("project")


def set_gaussian(score: float) -> None:
    Path("control/gaussian").write_text(str(score))


@pytest.mark.slow
@pytest.mark.parametrize(("gaussian", "worse"), [(0.5, True), (2.5, False)])
def test_after_the_first_pair_run_status_and_verdict_say_that_both_are_worse_than_a_gaussian(gaussian, worse, capsys):
    set_gaussian(gaussian)
    line = "worse than a Gaussian"
    assert study("run", str(PLAN), "--line", "1") == 0
    assert line not in capsys.readouterr().out  # a run is not a pair
    assert study("run", str(PLAN), "--line", "2") == 0
    for reader in ("status", "verdict"):
        assert study(reader, str(PLAN)) == 0
        assert (line in capsys.readouterr().out) is worse
    assert study("run", str(PLAN)) == (3 if worse else 0)
    assert ("warning: " in capsys.readouterr().out) is worse


@pytest.mark.slow
@pytest.mark.parametrize(("gaussian", "trained"), [(9.0, 1), (0.5, 2)])
def test_a_pilot_trains_the_baseline_and_says_whether_that_is_long_enough(gaussian, trained, capsys):
    set_gaussian(gaussian)
    assert study("status", str(PLAN), "--pilot") == 0
    out = capsys.readouterr().out
    assert ("worse than a Gaussian" in out) is (trained > 1)
    assert study_project.ran().count("train cosine 0") == trained
    assert not RESULTS.exists()  # or the plan would be fixed


@pytest.mark.parametrize(
    ("score", "half", "steps"),
    [(3.0, 6.0, 1500), (3.03, 3.6, 3000), (4.0, 4.4, None), (3.0, 3.0, None), (3.0, 2.0, None)],
)
def test_steps_that_would_be_enough_are_extrapolated_but_not_far(score, half, steps):
    assert status.estimate_steps(2.43, 1200, score, half) == steps
