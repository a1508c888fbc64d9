"""The page says what the files say, never turns text into markup, needs no other files, and names what is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import write_json
from ddpm.base.images import digest
from ddpm.pictures import plots
from ddpm.report import page as report
from ddpm.report import summary
from ddpm.runs import library, run_images
from ddpm.runs.record import Costs, Record
from tests import command, scored
from tests.pages import Page
from tests.scored import bare
from tests.small import small

SETTINGS = small(data={"image_size": 16}, model={"unet": {"base_channels": 8, "multipliers": [1, 2]}})
SCORES = {
    "classifier": {"fd": 1.25, "fd_infinity": 0.75, "fd_infinity_se": 0.125, "kid_mean": 0.0625, "precision": 0.875},
    "memorisation": {
        "pixels": {"share": 0.015625, "expected": 0.05, "limit": 0.140625, "ratio": 0.984},
        "classifier": {"share": 0.5, "expected": 0.05, "limit": 0.140625, "ratio": 0.25},
    },
    "real": {"classifier": {"count": 359.0, "fd": 0.1875, "fd_infinity": -0.25, "kid_mean": -0.015625}},
    "yardsticks": {"class_gaussians": {"classifier": {"count": 1437.0, "fd": 11.5}}},
    "bits_per_dim": 3.5,
    "bits_per_dim_se": 0.25,
}


def page() -> Page:
    report.write(Path("report.html"))
    return Page(Path("report.html").read_text())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with only params.yaml, outside any repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plots, "lines", lambda path, *_, **__: Image.new("L", (1, 1)).save(path))  # takes seconds
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    Path("params.yaml").write_text(yaml.safe_dump(SETTINGS.to_dict()))
    return tmp_path


def measured(**changes) -> Record:
    """The record of the working folder."""
    fields = {
        "params": library.relevant(SETTINGS.flat()),
        "scores": files.flatten(SCORES),
        "comparable": {"samples": 1437, "sampling": {"sampler": {"name": "ddim"}}},
        "costs": Costs(images_seen=256000, evaluations=5, seconds={"train": 83.4}),
        "environment": {"device": "a certain GPU"},
        "samples": digest([pictures(20)]),
    }
    return bare(**fields | changes)


@pytest.fixture
def complete(folder, digits) -> Path:
    """The folder with every file that a page uses."""
    scored.write(measured())
    files.write_rows(Path("metrics/loss.csv"), [{"step": step, "loss": 1 / step} for step in range(1, 301)])
    for split in ("train", "test"):
        shutil.copytree(digits / split, Path("data/processed") / split)
    made(SETTINGS, digits)
    for name in ("evaluation", "samples"):
        Path("data", name).mkdir()
    Image.new("L", (30, 20), 77).save("data/evaluation/nearest.png")
    np.save("data/samples/samples.npy", pictures(20))
    return folder


def made(settings, digits: Path) -> None:
    """Let the manifest be that of images made with these settings."""
    manifest = files.read_json(digits / "manifest.json") | {"config": settings.data.identity()}
    write_json(Path("data/processed/manifest.json"), manifest)


def pictures(count: int, size: int = 16) -> np.ndarray:
    """Image i has shade i."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 1, size, size))


def test_a_complete_folder_leaves_nothing_missing(complete):
    shown = page()
    assert len(shown.missing) == 1
    assert "metrics/" in shown.missing[0]  # the code is not known
    for value in (
        *("1.25", "0.75 ± 0.125", "3.5 ± 0.25", "lower", "higher", "11.5", "0.1875 (N = 359)"),  # scores
        *(measured().fingerprint.hash, "a certain GPU", "256000", "cosine"),  # provenance
    ):
        assert value in shown.text, value


@pytest.mark.parametrize(("of_classes", "early"), [(1.2, True), (1.3, False), (None, False)])
def test_a_run_that_is_worse_than_a_gaussian_says_so(of_classes, early):
    """One of all images, or the better one per class."""
    yardsticks = {"gaussian": {"classifier": {"count": 1437, "fd": 11.9}}}
    yardsticks |= {"class_gaussians": {"classifier": {"fd": of_classes}}} if of_classes else {}
    notes = summary.findings(measured(scores=files.flatten(SCORES | {"yardsticks": yardsticks})))
    assert any("classifier.fd is worse than that of a Gaussian" in note.text for note in notes) is early


def test_the_summary_is_printed_or_is_the_record(complete, capsys):
    for option in ((), ("--json",)):
        assert command.run("summary", *option) == 0
        out, err = capsys.readouterr()
        assert "metrics/ does not match" in err  # .ci/run looks for it
        if option:
            assert json.loads(out) == library.workspace().model_dump(mode="json")
        else:
            assert "0.75 ± 0.125" in out


@pytest.mark.parametrize("array", [pictures(9), np.zeros((3, 1, 4, 4)), np.array([{}], dtype=object)])
def test_images_of_another_run_are_not_shown_and_no_pickle_is_opened(array, folder):
    Path("data/samples").mkdir(parents=True)
    np.save(run_images.PATH, array)
    with pytest.raises(UserError, match=r"samples\.npy"):
        run_images.samples(bare(samples=digest([pictures(30)])))
    np.save(run_images.PATH, pictures(30))
    np.testing.assert_array_equal(run_images.samples(bare(samples=digest([pictures(30)]))), pictures(30))


def test_a_password_in_the_params_is_masked():
    *_, params = report.provenance(measured(params={"data.source": "https://user:secret@host/x"}))
    assert params.rows == [("data.source", "https://***@host/x")]
