"""The lines that ``make repro`` ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ddpm
from ddpm import cli
from ddpm.compare import summary
from ddpm.params import config
from tests.small import PARAMS, small

PRESETS = Path(ddpm.__file__).parent / "presets"
MEASURED: dict[str, dict[str, Any]] = {
    "train": {"parameters": 652772, "steps": 4000, "seconds": 142.8, "loss": 0.1},
    "sample": {"count": 1437, "seconds": 5.0},
    "evaluate": {
        "classifier": {"fd": 0.20605, "precision": 0.77, "recall": 0.8915, "is_mean": 9.0},
        "bits_per_dim": 2.863,
        "yardsticks": {"gaussian": {"classifier": {"count": 1437, "fd": 11.9, "recall": 0.73}}},
        "real": {"classifier": {"count": 359, "fd": 0.178, "precision": 0.877, "recall": 0.908, "is_mean": 8.8}},
    },
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_few_lines_tell_a_person_what_there_is() -> None:
    for name in ("samples/grid.png", "evaluation/nearest.png"):
        (Path("data") / name).parent.mkdir(parents=True)
        (Path("data") / name).touch()
    assert summary.lines(config.load(PRESETS / "digits.yaml"), MEASURED) == [
        "trained  unet, 652,772 parameters, 4,000 steps on digits 16x16 in 2 min 23 s",
        "scores   1,437 samples: Fréchet distance 0.206, precision 0.77, recall 0.891, 2.86 bits per dimension",
        "         1,437 draws of a Gaussian: Fréchet distance 11.9, recall 0.73",
        "         359 real images: Fréchet distance 0.178, precision 0.877, recall 0.908",
        "look     data/samples/grid.png, data/evaluation/nearest.png (samples and the training images nearest to them)",
        "browse   `ddpm report` writes report.html; `make ui` shows all runs on http://127.0.0.1:5000",
        "next     `dvc exp run -S diffusion.schedule.name=linear`, then `ddpm runs`",
    ]


def test_classes_and_the_likelihood_by_the_ode_are_among_the_scores() -> None:
    scores = {
        "classifier": {"fd": 1.0, "class_accuracy": 0.912}, "bits_per_dim": 2.8, "bits_per_dim_ode": 2.5,
        "real": {"classifier": {"count": 359, "class_accuracy": 0.981}},
    }  # fmt: skip
    told = summary.lines(config.load(PRESETS / "digits.yaml"), MEASURED | {"evaluate": scores})
    assert told[1].endswith("class accuracy 0.912, 2.8 bits per dimension, 2.5 bits per dimension by the ODE")
    assert told[2].endswith("359 real images: class accuracy 0.981")


def test_copies_of_train_images_are_a_line() -> None:
    """That of the space which shows them: a model may copy in one and not in another."""
    near = {"share": 0.06, "expected": 0.05, "limit": 0.14, "ratio": 1.0}
    digits = config.load(PRESETS / "digits.yaml")
    for share, sign in ((0.06, "no sign of any: 6%"), (0.15, "of train images: 15%")):
        scores = {"memorisation": {"classifier": near | {"share": share}, "pixels": near}}
        assert summary.lines(digits, MEASURED | {"evaluate": scores})[2] == (
            f"copies   {sign} of the samples are as near to a train image as the nearest 5% of test images"
        )


def test_what_is_not_there_is_left_out() -> None:
    linear = small(diffusion=PARAMS["diffusion"] | {"schedule": {"name": "linear"}})
    told = summary.lines(linear, {"train": {}, "sample": {}, "evaluate": {"classifier": {"kid_mean": 0.1}}})
    assert told[:3] == [
        "trained  unet on digits 8x8",
        "scores   none",
        "look     no pictures are here: `dvc repro` makes them",
    ]
    assert "name=cosine`" in told[4]


def test_several_extractors_are_told_apart() -> None:
    both = small(evaluate={"extractors": ["classifier", "inception"]})
    scores = {"classifier": {"fd": 1.0}, "inception": {"fid": 20.0}, "real": {"inception": {"count": 9, "fid": 3.0}}}
    told = summary.lines(both, MEASURED | {"evaluate": scores})
    assert told[1].endswith(" samples: Fréchet distance by classifier 1, Fréchet distance by inception 20")
    assert told[2].strip() == "9 real images: Fréchet distance by inception 3"


def test_the_command_prints_them_or_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    Path("metrics").mkdir()
    for stage, values in MEASURED.items():
        Path(f"metrics/{stage}.json").write_text(json.dumps(values))
    Path("params.yaml").write_text((PRESETS / "digits.yaml").read_text())
    told = {}
    for option in ("", "--all", "--json"):
        with pytest.raises(SystemExit, match="0"):
            cli.main(["summary", *filter(None, [option])])
        told[option] = capsys.readouterr().out
    assert told[""].splitlines()[0].startswith("trained  unet, 652,772 parameters")
    assert len(told[""].splitlines()) == 7
    assert "evaluate  real.classifier.is_mean  8.8000" in told["--all"]
    assert len(told["--all"].splitlines()) == 19
    assert json.loads(told["--json"]) == MEASURED
