"""What a study says before its first look: that all arms are worse than a Gaussian, and how long to train."""

import json
from pathlib import Path

import pytest

from ddpm.study import judging, loading, status
from tests import study_project
from tests.study_project import PLAN, RESULTS, study

pytestmark = pytest.mark.usefixtures("project")


def set_gaussian(score: float) -> None:
    Path("control/gaussian").write_text(str(score))


@pytest.mark.slow
@pytest.mark.parametrize(("gaussian", "worse"), [(0.5, True), (2.5, False)])
def test_after_the_first_pair_run_status_and_verdict_say_that_both_are_worse_than_a_gaussian(gaussian, worse, capsys):
    set_gaussian(gaussian)
    line = "both arms are worse than a Gaussian (0.5) so far: train for longer"
    assert study("run", str(PLAN), "--line", "1") == 0
    assert line not in capsys.readouterr().out  # a run is not a pair
    assert study("run", str(PLAN), "--line", "2") == 0
    for reader in ("status", "verdict"):
        assert study(reader, str(PLAN)) == 0
        assert (line in capsys.readouterr().out) is worse
    assert study("run", str(PLAN)) == (3 if worse else 0)
    assert (f"warning: {line}" in capsys.readouterr().out) is worse
    assert line not in json.loads((RESULTS / "verdict.json").read_text())["notes"]
    assert study("status", str(PLAN)) == 0
    assert f"complete: `ddpm study verdict {PLAN}` prints the verdict" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("gaussian", "trained"), [(9.0, 1), (0.5, 2)])
def test_a_pilot_trains_the_baseline_and_says_whether_that_is_long_enough(gaussian, trained, capsys):
    set_gaussian(gaussian)
    assert study("status", str(PLAN), "--pilot") == 0
    out = capsys.readouterr().out
    assert ("worse than a Gaussian" in out) is (trained > 1)
    assert ("better than a Gaussian" in out) is (trained == 1)
    assert ("; after half the steps " in out) is (trained > 1)  # and how many would be enough cannot be told
    assert "not known yet" not in out  # what all experiments will take
    assert study_project.ran().count("train cosine 0") == trained
    assert not RESULTS.exists()  # or the plan would be fixed


def test_a_pilot_of_other_images_reads_them():
    mine = "primary: classifier.fd\ncommon: {data.dataset.name: arrays, data.source: mine.npz}\n"
    PLAN.write_text(f"{mine}{study_project.STUDY}")
    for text in ("one", "another"):
        Path("mine.npz").write_text(text)
        assert study("status", str(PLAN), "--pilot") == 0
    assert study_project.ran().count("reference cosine 0") == 2


@pytest.mark.parametrize(
    ("score", "half", "steps"),
    [(3.0, 6.0, 1500), (3.03, 3.6, 3000), (4.0, 4.4, None), (3.0, 3.0, None), (3.0, 2.0, None)],
)
def test_steps_that_would_be_enough_are_extrapolated_but_not_far(score, half, steps):
    assert status.estimate_steps(2.43, 1200, score, half) == steps


def test_reasons_that_are_alike_are_one_line():
    reasons = [f"{name}.json: made under another plan: undo the change" for name in "abcde"]
    first, second = judging.merge_reasons([*reasons, "f.json: torn"])
    assert "a.json" in first
    assert "2 more" in first
    assert second == "f.json: torn"


def test_a_new_study_names_the_base_s_own_arm(capsys):
    assert study("new", "one", "--vary", "diffusion.schedule.name=sigmoid,cosine", "--base", "digits_small_2026") == 0
    line = "digits_small_2026 has diffusion.schedule.name: cosine: the arm cosine"
    assert line in capsys.readouterr().out
    assert f"# {line}\n" in Path("studies/one.yaml").read_text()
    assert study("new", "two", "--vary", "train.steps=10,20", "--base", "digits_small_2026") == 0
    assert "none of the arms" in capsys.readouterr().out
    assert loading.load(Path("studies/one.yaml")).baseline == "sigmoid"
