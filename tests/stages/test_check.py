"""The first stage: it reports what is impossible in params.yaml before DVC removes anything."""

from pathlib import Path

import pytest
import yaml

from ddpm.base import files
from ddpm.base.paths import CHECKED
from ddpm.params import config, file
from stages import __main__ as runner
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
        ("model.unet.groups", 3, "model.unet: groups: 3"),
        ("sample.count", 20, "sample.count: 20"),
        ("evaluate.kid_subset_size", 5000, "'kid'"),
        ("data.source", "nowhere", "data.source: "),
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
    [(9, None, "model.classes: 9,"), (10, ["ten"], "sample.classes: no class 'ten'"), (10, [3, "4"], None)],
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


def test_a_key_that_dvc_would_miss_later_is_missed_here(project, capsys):
    """Even one with a default: DVC refuses to run the stage that lists it, and has removed its outputs by then."""
    whole = file.read_params(DIGITS)
    for key in ("seed", "diffusion", "data.split_seed", "evaluate.kid_subset_size"):
        section, _, name = key.partition(".")
        params = {other: value for other, value in whole.items() if other != section}
        if name:
            params[section] = {field: value for field, value in whole[section].items() if field != name}
        Path("params.yaml").write_text(yaml.dump(params, Dumper=yaml.CSafeDumper))
        assert checked() == 2, key
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert f"{key}: missing" in said
