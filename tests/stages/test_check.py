"""The first stage: it reports what is impossible in params.yaml before DVC removes anything."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ddpm.base import files
from ddpm.base.paths import CHECKED
from ddpm.params import config, file
from stages import __main__ as runner
from tests.command import imported
from tests.small_project import lay_out, set_params

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "ddpm/presets/digits_2026.yaml"


@pytest.fixture
def project(folder) -> Path:
    """The digits preset."""
    lay_out(folder)
    CHECKED.unlink()
    return folder


def set_param(key: str, value) -> None:
    for part in reversed(key.split(".")):
        value = {part: value}
    set_params(**value)


def checked() -> int:
    with pytest.raises(SystemExit) as ended:
        runner.run("check")
    return int(ended.value.code or 0)


@pytest.mark.parametrize("secret", ["me:hunter2@host/x.zip", "host/x.zip?token=hunter2"])
def test_a_secret_in_the_source_is_refused_before_dvc_records_it(project, secret, capsys):
    set_param("data.source", f"https://{secret}")
    assert checked() == 2
    assert "data.source" in (said := capsys.readouterr().err)
    assert "hunter2" not in said
    assert not CHECKED.exists()


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("launch.processes", "two", "launch.processes: 'two'"),
        ("compare.confidence", 1, "compare.confidence: 1"),
        ("model.unet.groups", 3, "model.unet: groups: 3"),
        ("data.image_size", [16, 17], "data.image_size: [16, 17]"),
        ("sample.count", 20, "sample.count: 20"),
        ("evaluate.kid_subset_size", 5000, "'kid'"),
        ("data.source", "nowhere", "data.source: "),
        ("data.dataset.name", "image_folder", "data.source: null"),
        ("device", "cuda:999", "device: 'cuda:999'"),
    ],
)
def test_what_is_impossible_is_one_line_and_exit_code_2(project, key, value, line, capsys):
    set_param(key, value)
    assert checked() == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert line in said
    assert not CHECKED.exists()


def preprocessed() -> None:
    """As if the digits had been preprocessed with these params."""
    Path("data/processed").mkdir(parents=True)
    manifest = {"dataset": "digits", "classes": list("0123456789"), "image_size": 16, "channels": 1, "skipped": 0,
                "counts": {"train": 1, "test": 1}, "sha256": {"train": "", "test": ""},
                "config": config.load().data.identity()}  # fmt: skip
    files.write_json(Path("data/processed/manifest.json"), manifest)
    lock = {"stages": {"download": {"params": {"params.yaml": {"data.source": None}}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


@pytest.mark.parametrize(
    ("classes", "asked", "line"),
    [(9, None, "model.classes: 9 "), (10, ["ten"], "sample.classes: no class 'ten'"), (10, [3, "4"], None)],
)
def test_classes_are_compared_with_data_that_is_already_here(project, classes, asked, line, capsys):
    preprocessed()
    set_param("model.classes", classes)
    set_param("sample.classes", asked)
    assert checked() == (0 if line is None else 2)
    assert (line or "") in capsys.readouterr().err
    set_param("data.image_size", 32)  # other data: what is here says nothing about them
    set_param("sample.classes", None)
    assert checked() == 0


def test_data_of_other_params_are_no_reason_to_refuse_these(project):
    """`git checkout` brings dvc.lock back, and not the data: they are made again."""
    preprocessed()
    set_param("model.classes", 9)
    assert checked() == 2
    manifest = Path("data/processed/manifest.json")
    files.write_json(manifest, files.read_json(manifest) | {"config": "of other params"})
    assert checked() == 0


@pytest.mark.parametrize(("snapshots", "fine"), [([128], True), ([64, 192], False)])
def test_snapshots_of_epochs_are_compared_with_data_that_is_already_here(project, snapshots, fine, capsys):
    preprocessed()  # one image: 128 epochs of it are two batches
    for key, value in {"steps": None, "epochs": 128, "lr_decay": "constant", "snapshots": snapshots}.items():
        set_param(f"train.{key}", value)
    assert checked() == (0 if fine else 2)
    assert fine or capsys.readouterr().err.startswith("error: train.snapshots: 192 ")


def test_a_model_to_start_from_is_looked_at_before_anything_is_deleted(project, model_file, capsys):
    set_param("train.start_from", f"{model_file}@{files.sha256(model_file)}")
    assert checked() == 2
    assert "data.image_size (8 there, 16 here)" in capsys.readouterr().err


def test_a_key_that_dvc_would_miss_later_is_missed_here(project, capsys):
    """Even one with a default: DVC refuses to run the stage that lists it, and has removed its outputs by then."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].values()
    for key in sorted({key for stage in stages for key in stage["params"] if isinstance(key, str)}):
        section, _, name = key.partition(".")
        params = file.read_params(DIGITS)
        if name:
            del params[section][name]
        else:
            del params[section]
        Path("params.yaml").write_text(yaml.safe_dump(params))
        assert checked() == 2, key
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{key}: missing" in said


@pytest.mark.parametrize("channels", [2, 64])
def test_channels_that_an_extractor_cannot_see_are_one_line(project, channels, capsys):
    np.savez("own.npz", images=np.zeros((40, 16, 16, channels), np.uint8))
    set_param("data.dataset", {"name": "arrays", "arrays": {"layout": "NHWC"}})
    set_param("data.source", "own.npz")
    set_param("data.channels", channels)
    assert checked() == 0
    set_param("evaluate.extractors", ["classifier", "inception"])
    set_param("evaluate.metrics", ["isc"])
    assert checked() == 2
    assert capsys.readouterr().err.startswith("error: evaluate.extractors: inception ")


def test_what_the_check_makes_does_not_depend_on_params(project):
    assert checked() == 0
    made = files.sha256(CHECKED)
    set_param("seed", 9)
    set_param("diffusion.schedule.name", "linear")
    assert checked() == 0
    assert files.sha256(CHECKED) == made


def test_the_check_imports_nothing_slow_that_it_does_not_need(project):
    assert not imported("-m", "stages", "check") & {"mlflow", "dvc", "torch_fidelity"}


def test_a_place_that_cannot_be_written_to(project, capsys):
    Path("data").rmdir()
    Path("data").write_text("a file stands where the folder should be")
    assert checked() == 2
    assert "data/checked: cannot write here" in capsys.readouterr().err


@pytest.mark.parametrize("lock", ["stages: [", "stages: {download: {params: {}}}"])
def test_a_torn_record_stops_no_check(project, lock, capsys):
    Path("dvc.lock").write_text(lock)
    assert checked() == 0
    set_param("model.unet.groups", 3)
    assert checked() == 2
    assert "groups: 3 must divide" in capsys.readouterr().err


def test_images_that_are_enough_with_classes_may_be_too_few_without(project, capsys):
    """Without classes, ``auto`` means an extractor with more features, for which there are too few images."""
    Path("photos").mkdir()
    set_param("data.dataset.name", "image_folder")
    set_param("data.source", "photos")
    set_params(evaluate={"extractors": ["auto"], "metrics": ["fid"]}, sample={"count": 120})
    set_param("model.classes", 10)
    assert checked() == 0
    set_param("model.classes", 0)
    assert checked() == 2
    assert "sample.count: 120 images are too few" in capsys.readouterr().err
