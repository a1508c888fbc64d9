"""The lines that ``make repro`` ends with."""

import json
from pathlib import Path

import pytest

from ddpm.base import files
from ddpm.base.paths import RUN
from ddpm.params import config, presets
from ddpm.report import summary
from ddpm.runs import library, record
from ddpm.runs.record import Costs, Record
from tests.command import run
from tests.scored import bare

PRESETS = presets.FOLDER
SCORES = {
    "classifier": {"fd": 0.20605, "fd_infinity": 0.05, "precision": 0.77, "recall": 0.8915, "is_mean": 9.0},
    "bits_per_dim": 2.863,
    "yardsticks": {"gaussian": {"classifier": {"count": 1437, "fd": 11.9, "recall": 0.73}}},
    "real": {"classifier": {"count": 359, "fd": 0.178, "precision": 0.877, "recall": 0.908, "is_mean": 8.8}},
}


pytestmark = pytest.mark.usefixtures("folder")


def of(scores: dict) -> Record:
    """A record of the digits preset with these scores, nested as in metrics/evaluate.json."""
    params = library.relevant(config.load(PRESETS / "digits_2026.yaml").flat())
    costs = Costs(parameters=652772, images_seen=256000, seconds={"train": 142.8})
    return bare(params=params, scores=files.flatten(scores), comparable={"samples": 1437}, costs=costs)


@pytest.mark.parametrize(("of_classes", "early"), [(0.2, True), (0.3, False), (None, False)])
def test_a_run_that_is_worse_than_a_gaussian_says_so(of_classes, early):
    """One of all images, or the better one per class."""
    yardsticks = SCORES["yardsticks"] | ({"class_gaussians": {"classifier": {"fd": of_classes}}} if of_classes else {})
    notes = [note.text for note in summary.findings(of(SCORES | {"yardsticks": yardsticks}))]
    assert any("classifier.fd is worse than that of a Gaussian" in note for note in notes) is early


def test_the_command_prints_them_or_the_record(capsys):
    RUN.parent.mkdir()
    RUN.write_text(of(SCORES).text())
    Path("params.yaml").write_text((PRESETS / "digits_2026.yaml").read_text())
    for option in ((), ("--json",)):
        assert run("summary", *option) == 0
        out, err = capsys.readouterr()
        assert "metrics/ does not match" in err  # .ci/run looks for it
        if option:
            assert json.loads(out) == record.read_record(RUN).model_dump(mode="json")
        else:
            assert "0.2061" in out
