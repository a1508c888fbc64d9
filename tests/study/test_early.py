"""What a study says before its first look: that all arms are worse than a Gaussian, and how long to train."""

from pathlib import Path

import pytest

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
@pytest.mark.parametrize(("gaussian", "worse"), [(9.0, False), (0.5, True)])
def test_a_pilot_trains_the_baseline_and_says_whether_that_is_long_enough(gaussian, worse, capsys):
    set_gaussian(gaussian)
    assert study("status", str(PLAN), "--pilot") == 0
    out = capsys.readouterr().out
    assert ("worse than a Gaussian" in out) is worse
    assert study_project.ran().count("train cosine 0") == 1
    assert not RESULTS.exists()  # or the plan would be fixed
