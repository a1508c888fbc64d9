"""What ``ddpm check`` looks at besides params.yaml: git, DVC, where the images come from, and how long a run takes."""

import math
import os
import shutil
import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pygit2
import pytest
import yaml
from PIL import Image

from ddpm import cli
from ddpm.base.machine import SITE_CACHE, close_site_cache
from ddpm.base.paths import PROCESSED, RAW
from ddpm.data.preprocessing import preprocess
from ddpm.params import config, presets
from ddpm.tools import forecast
from ddpm.tools.clone import find_images
from ddpm.tools.forecast import Measured
from tests.small import small
from tests.small_project import ROOT, merged

DIGITS = presets.read("digits_2026")
FOLDER = {"name": "image_folder"}


@pytest.fixture(autouse=True)
def _in_a_clone(tmp_path, monkeypatch) -> None:
    """A folder with git, DVC and the digits preset, nothing run yet."""
    monkeypatch.chdir(tmp_path)
    pygit2.init_repository(".")
    (tmp_path / ".dvc").mkdir()
    write()


def write(**changes) -> None:
    """Write params.yaml: the digits preset with some keys of its sections changed."""
    Path("params.yaml").write_text(yaml.safe_dump(merged(DIGITS, changes)))


def check(capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of ``ddpm check``, and its stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--no-pilot"])
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize(("source", "code", "words", "dataset"), [
    ("nowhere", 2, "'nowhere'", "mnist"), ("https://example.org/m", 0, "", "mnist"),
    ("https://me:hunter2@example.org/m", 2, "https://***@example", "mnist"),
    (None, 2, "data.source: null", "arrays"), (".dvc", 2, "data.dataset.name: image_folder", "digits"),
])  # fmt: skip
def test_the_source_of_images_that_are_not_here_has_to_be_there(source, code, words, dataset, capsys):
    write(data={"dataset": {"name": dataset}, "source": source})
    ended, told = check(capsys)
    assert (ended, bool(told)) == (code, bool(words))
    assert words in told
    assert "hunter2" not in told


def test_images_of_a_source_that_was_named_before_are_not_counted():
    for name, count in (("few", 10), ("many", 40)):
        Path(name).mkdir()
        for i in range(count):
            Image.new("L", (16, 16), i).save(f"{name}/{i}.png")
    write(data={"dataset": FOLDER, "source": "few"})
    data = config.load().data
    data.dataset.download("few", RAW)
    preprocess(data, RAW, PROCESSED)
    write(data={"dataset": FOLDER, "source": "many"})
    assert find_images(config.load()).train == 32


def test_images_are_counted_before_preprocess_has_seen_them(monkeypatch):
    Path("new").mkdir()
    for i in range(10):
        Image.new("L", (16, 16), i).save(f"new/{i}.png")
    write(data={"dataset": FOLDER, "source": "new"})
    config.load().data.dataset.download("new", RAW)
    monkeypatch.setattr("ddpm.tools.clone.on_record", lambda stage, params: stage == "download")
    assert find_images(config.load()).train == 8


@pytest.mark.parametrize("half", ["", "schema: '2", "stages:\n  a:\n    cmd", "<<<<<<< HEAD\nstages: {}\n"])
def test_half_a_lock_of_dvcs_is_a_line_that_names_it(capsys, half):
    Path("dvc.yaml").write_text("stages: {a: {cmd: make a}}")
    Path("dvc.lock").write_text(half)
    code, told = check(capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert "dvc.lock" in told


def test_dvc_s_pickles_are_in_a_folder_of_this_user_alone(monkeypatch, capsys):
    monkeypatch.delenv("DVC_SITE_CACHE_DIR")
    shutil.copy(ROOT / ".dvc/config", ".dvc/config")
    assert check(capsys) == (0, "")
    assert list(SITE_CACHE.glob("repo/*/links"))
    assert stat.S_IMODE(SITE_CACHE.stat().st_mode) == stat.S_IRWXU
    SITE_CACHE.chmod(0o777)
    close_site_cache()  # as the check stage does
    assert stat.S_IMODE(SITE_CACHE.stat().st_mode) == stat.S_IRWXU


@pytest.fixture
def site(monkeypatch):
    """DVC's place for pickles, where others come; pytest's folders are in one where they do not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "site/mine/repo").mkdir(parents=True)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", f"{folder}/site/mine")
        yield Path(folder) / "site"


MODES = [(0o777, 2, ""), (0o777, 2, "mine/repo"), (0o1777, 0, "mine"), (0o755, 0, "mine/repo")]


@pytest.mark.parametrize(("mode", "code", "name"), MODES)
def test_pickles_where_others_may_write_are_refused(site, mode, code, name, capsys):
    (site / name).chmod(mode)
    ended, told = check(capsys)
    assert ended == code
    assert not code or str(site / name) in told


def test_pickles_of_somebody_else_are_refused(site, monkeypatch, capsys):
    assert check(capsys) == (0, "")
    [cache] = site.glob("mine/repo/*")
    if os.getuid():
        monkeypatch.setattr(os, "getuid", lambda: 12345)
    else:
        os.chown(cache / "links", 12345, 12345)
    code, told = check(capsys)
    assert (code, told.count("\n")) == (2, 1)
    assert str(site) in told


MEASURED = Measured(step=0.5, memory=2**30, device="cpu (1 thread)")
SAMPLE = {"count": 1000, "steps": 5}
EPOCHS = {"steps": None, "epochs": 3}


@pytest.mark.parametrize(("sections", "images", "train", "passes"), [
    ({"train": {"steps": 100}, "sample": SAMPLE}, None, 50, 1000 * 5),
    ({"train": {"steps": 200}, "sample": SAMPLE | {"seeds": (0, 1)}}, None, 100, 2000 * 5),
    ({"train": {"steps": 100, "snapshots": [8, 16]}, "sample": SAMPLE}, None, 50, 3000 * 5),
    ({"train": {"steps": 100}, "sample": SAMPLE | {"sampler": {"name": "heun"}}}, None, 50, 1000 * 9),
    ({"train": EPOCHS, "sample": SAMPLE}, 20, math.ceil(3 * 20 / 8) * 0.5, 1000 * 5),
    ({"train": EPOCHS, "sample": SAMPLE}, None, 3 * 125 * 0.5, 1000 * 5),  # epochs of 1,000 images
])  # fmt: skip
def test_what_there_is_more_of_takes_longer(sections, images, train, passes):
    """A training step of 8 images takes 0.5 s."""
    sample = passes * 0.5 / 8 / forecast.STEPS
    assert forecast.predict(small(**sections), MEASURED, images)[2:] == pytest.approx((train, sample))
