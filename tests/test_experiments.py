"""Whether metrics/ belong to the checked-out params and code, on a small pipeline that DVC ran."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.base.files import md5
from ddpm.compare import snapshots
from ddpm.params import inputs

STALE = "metrics/ are not of the params and code that are checked out: "
CHECK = "import pathlib; pathlib.Path('data').mkdir(exist_ok=True); pathlib.Path('data/checked').touch()"
TRAIN = "import pathlib; pathlib.Path('data/model').mkdir(parents=True); pathlib.Path('data/model/m').touch()"
SCORE = "import pathlib; pathlib.Path('metrics').mkdir(exist_ok=True); " + "; ".join(
    f"pathlib.Path('metrics/{name}').write_text('1')" for name in ("evaluate.json", "fingerprint.json", "scores.csv")
)
# what each stage does does not matter here
PIPELINE = f"""
stages:
  check:
    cmd: python -c "{CHECK}"
    params: [seed]
    outs: [data/checked]
  train:
    cmd: python -c "{TRAIN}"
    params: [seed, train]
    deps: [data/checked, ddpm/training/trainer.py, "ddpm/variants/schedules/${{schedule.name}}.py"]
    outs: [data/model/m]
  evaluate:
    cmd: python -c "{SCORE}"
    params: [seed]
    deps: [data/model/m, ddpm/variants/extractors]
    metrics:
      - metrics/evaluate.json: {{cache: false}}
      - metrics/fingerprint.json: {{cache: false}}
      - metrics/scores.csv: {{cache: false}}
"""
PARAMS = "seed: 1\nschedule: {name: cosine}\ntrain: {steps: 3, off: off}\ngate: {k: 3}\n"
CODE = (
    "training/trainer.py",
    "variants/schedules/cosine.py",
    "variants/schedules/linear.py",
    "variants/extractors/a-b.py",
    "variants/extractors/a/deep.py",
    "variants/extractors/weights/w",
    "variants/extractors/__pycache__/a.pyc",
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline's folder after ``dvc repro``."""
    folder = tmp_path_factory.mktemp("ran") / "project"
    for name in CODE:
        (folder / "ddpm" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "ddpm" / name).write_text(name)
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "params.yaml").write_text(PARAMS)
    (folder / ".dvcignore").write_text("__pycache__/\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "GIT_"))}
    site = {"DVC_SITE_CACHE_DIR": str(folder.parent / "site"), "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}"}
    for command in (["init", "--quiet", "--no-scm"], ["repro", "--quiet"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=folder, env=kept | site, check=True)
    return folder


@pytest.fixture(autouse=True)
def clone(ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone as git has it: no data, and no cache."""
    shutil.copytree(ran, tmp_path / "clone", ignore=shutil.ignore_patterns(".dvc", "data"))
    monkeypatch.chdir(tmp_path / "clone")


def test_a_run_is_recorded_with_the_code_that_dvc_lock_names() -> None:
    paths = ("ddpm/training/trainer.py", "ddpm/variants/schedules/cosine.py", "ddpm/variants/extractors")
    ran = snapshots.code({snapshots.LOCK: Path("dvc.lock").read_bytes()}, ["train", "evaluate"])
    assert ran == inputs.code((path, md5(Path(path))) for path in (*paths, "dvc.yaml"))
    assert snapshots.is_checked_out(ran)
    Path("ddpm/variants/extractors/a/deep.py").unlink()
    assert not snapshots.is_checked_out(ran)


def doubt() -> str:
    with pytest.raises(UserError) as error:
        snapshots.check_metrics()
    line = str(error.value)
    assert line.startswith(STALE)
    assert line.endswith("; run `dvc repro`")
    return line.removeprefix(STALE).removesuffix("; run `dvc repro`")


def edit(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_metrics_are_those_of_a_fresh_clone() -> None:
    assert not Path(".dvc").exists()
    snapshots.check_metrics()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ddpm/training/trainer.py", "ddpm/training/trainer.py changed since stage train ran"),
        ("ddpm/variants/schedules/cosine.py", "ddpm/variants/schedules/cosine.py changed since stage train ran"),
        ("ddpm/variants/extractors/weights/w", "ddpm/variants/extractors changed since stage evaluate ran"),
        ("ddpm/variants/extractors/new.py", "ddpm/variants/extractors changed since stage evaluate ran"),
        ("metrics/evaluate.json", "metrics/evaluate.json is not what stage evaluate wrote"),
        ("metrics/scores.csv", "metrics/scores.csv is not what stage evaluate wrote"),
    ],
)
def test_a_file_that_was_changed_since_is_named(path: str, reason: str) -> None:
    Path(path).write_text("changed")
    assert doubt() == reason


@pytest.mark.parametrize("path", ["ddpm/training/trainer.py", "metrics/scores.csv", "dvc.lock", "dvc.yaml"])
def test_a_file_that_is_gone_is_named(path: str) -> None:
    Path(path).unlink()
    assert path in doubt()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("seed: 1", "seed: 2", "stage train ran with another seed than params.yaml says"),
        ("steps: 3", "steps: 4", "stage train ran with another train than params.yaml says"),
        ("cosine", "linear", "stage train ran without ddpm/variants/schedules/linear.py, which dvc.yaml lists"),
    ],
)
def test_params_that_were_set_since_are_named(old: str, new: str, reason: str) -> None:
    edit("params.yaml", old, new)
    assert doubt() == reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (
            "checked, ddpm/training/trainer.py",
            "checked, ddpm/training/trainer.py, ddpm/variants/schedules/linear.py",
            "ddpm/variants/schedules/linear.py",
        ),
        ("[seed, train]", "[seed, train, schedule]", "schedule"),
    ],
)
def test_what_a_stage_reads_since_is_named(old: str, new: str, reason: str) -> None:
    edit("dvc.yaml", old, new)
    assert doubt() == f"stage train ran without {reason}, which dvc.yaml lists"


def test_what_no_stage_reads_does_not_count() -> None:
    edit("params.yaml", "k: 3", "k: 4")
    Path("ddpm/variants/schedules/linear.py").write_text("changed")
    Path("ddpm/variants/extractors/__pycache__/b.pyc").write_text("changed")
    snapshots.check_metrics()


def test_a_stage_that_is_no_longer_in_dvc_yaml_does_not_count() -> None:
    edit("dvc.lock", "stages:\n", "stages:\n  old:\n    deps:\n    - {path: ddpm/old.py, md5: '0'}\n")
    snapshots.check_metrics()
