"""`ddpm score`: images from anywhere get the scores of the evaluate stage, or one line that says why not."""

import os
import re
import signal
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ddpm.base import paths
from ddpm.base.errors import UserError
from ddpm.base.files import flatten, read_json, sha256
from ddpm.base.sections import Shape
from ddpm.data.processed import open_split
from ddpm.params import config
from ddpm.runs import record
from ddpm.scoring.evaluate_params import Evaluate
from ddpm.scoring.features import extract
from ddpm.tools import score
from ddpm.variants.extractors.inception import Inception
from ddpm.variants.extractors.random_conv import RandomConv
from tests import command
from tests.scored import bare
from tests.small import CPU
from tests.small_project import lay_out, run_stage

SHAPE = Shape(1, 4, 4)
SIX = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4, 1)


def write_pngs(folder: Path, images: np.ndarray) -> Path:
    """images: (N, H, W, C)."""
    folder.mkdir()
    for row, image in enumerate(images):
        Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(folder / f"{row:05d}.png")
    return folder


def write_broken(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").write_bytes(b"no picture")
    return folder


def write_tar(folder: Path, images: np.ndarray) -> Path:
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as tar:
        tar.add(write_pngs(folder, images), arcname="drawn")
    return path


def write_npz(folder: Path, images: np.ndarray, **others) -> Path:
    np.savez(folder.with_suffix(".npz"), images, **others)
    return folder.with_suffix(".npz")


def write_npy(folder: Path, images: np.ndarray) -> Path:
    np.save(folder.with_suffix(".npy"), images)
    return folder.with_suffix(".npy")


@pytest.mark.slow
@pytest.mark.usefixtures("preprocessed")
def test_images_from_anywhere_get_the_scores_of_the_evaluate_stage():
    for stage in ("reference", "train", "sample", "evaluate"):
        assert run_stage(stage) == 0
    evaluated = flatten(read_json(paths.EVALUATE))
    drawn = np.load(paths.SAMPLES / "samples.npy").transpose(0, 2, 3, 1)
    known = {"lr": 0.5}, {"images_seen": 64, "seconds.train": 2.5}
    scored = score.score(write_npy(Path("drawn"), drawn), 3, "theirs", *known)
    assert scored.scores.keys() >= {"classifier.fd", "classifier.kid_mean", "memorisation.pixels.share"}
    assert scored.scores == {key: evaluated[key] for key in scored.scores}
    ours = record.read_record(paths.RUN)
    assert scored.fingerprint.without("sampling") == ours.fingerprint.without("sampling")
    assert scored.fingerprint.hash != ours.fingerprint.hash
    assert scored.samples == ours.samples
    given = Path("params.yaml").read_text()  # what scoring does not read may be anything
    Path("params.yaml").write_text(re.sub("(?m)^(train|model|sample|diffusion):", r"\1: {no: 1}\n\1_was:", given))
    with pytest.raises(UserError, match="train"):
        config.load()
    again = score.score(Path("drawn.npy"), 3, "theirs", *known)
    assert again.model_copy(update={"finished": scored.finished}) == scored


D = RandomConv.dimensions
MU, SIGMA = np.zeros(D), np.eye(D)


def test_the_distance_to_a_file_of_others_is_torch_fidelity_s(digits, folder, monkeypatch):
    lay_out(folder, digits)
    monkeypatch.setattr(RandomConv, "published", Inception.published)
    real = np.array(open_split(digits, "train")[0])
    drawn = np.array(open_split(digits, "test")[0])[:, :, ::-1] // 2
    RandomConv().write_weights(digits, Path("weights"), CPU)
    network = RandomConv().load(Path("weights"))
    features = (extract(network, images, 64, CPU).features for images in (drawn, real))
    fake, theirs = map(fid_features_to_statistics, features)
    expected = fid_statistics_to_metric(fake, theirs, verbose=False)["frechet_inception_distance"]
    arrays = {name: theirs[name].astype(np.float32) for name in ("mu", "sigma")}
    np.savez("theirs.npz", **arrays, mu_s=MU[:3])
    np.savez("drawn.npz", drawn)
    asked = ["score", "drawn.npz", "--seed", "3", "--reference", "theirs.npz", "--extractor", "random_conv"]
    assert command.run(*asked) == 0
    run = record.read_record(Path("metrics/scored/drawn-3.json"))
    assert run.scores == {"random_conv.fd": pytest.approx(expected, rel=1e-5)}
    assert run.fingerprint.comparable["reference"] == sha256(Path("theirs.npz"))
    assert run.params == {"name": "drawn"}


STATISTICS = {
    "dimension": ("a.npz", {"mu": MU[1:], "sigma": SIGMA[1:, 1:]}, "mu is"),
    "not finite": ("a.npz", {"mu": MU, "sigma": np.full((D, D), np.nan)}, "sigma is"),
    "not symmetric": ("a.npz", {"mu": MU, "sigma": np.triu(np.ones((D, D)))}, "sigma is not symmetric"),
    "a negative variance in one direction": ("a.npz", {"mu": MU, "sigma": 2 * SIGMA - 1}, "negative variances"),
    "overflow": ("a.npz", {"mu": MU, "sigma": np.full((D, D), 1e308)}, "negative variances, or more than"),
    "images": ("a.npz", {"arr_0": np.zeros((6, 4, 4, 1), np.uint8)}, "called mu"),
    "not npz": ("a.pkl", {"mu": MU, "sigma": SIGMA}, "allowed: an .npz"),
}


@pytest.mark.parametrize("wrong", STATISTICS)
def test_a_file_without_a_mean_and_a_covariance_is_refused_in_one_line(wrong, tmp_path):
    name, arrays, reason = STATISTICS[wrong]
    with (tmp_path / name).open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(UserError, match=reason) as refused:
        score.read_statistics(tmp_path / name, D, tmp_path)
    assert "\n" not in str(refused.value)


READ = {
    "npy": lambda at: write_npy(at, SIX),
    "npz": lambda at: write_npz(at, SIX),
    "folder": lambda at: write_pngs(at, SIX),
    "tar": lambda at: write_tar(at, SIX),
    "channels first": lambda at: write_npy(at, SIX.transpose(0, 3, 1, 2)),
    "no channels": lambda at: write_npy(at, SIX[..., 0]),
    "the first of two arrays": lambda at: write_npz(at, SIX, arr_1=np.zeros(6)),
}


@pytest.mark.parametrize("form", READ)
def test_images_are_read_as_they_are(form, tmp_path):
    (tmp_path / "scratch").mkdir()
    images = score.read_images(READ[form](tmp_path / "drawn"), SHAPE, tmp_path / "scratch")
    np.testing.assert_array_equal(images, SIX.transpose(0, 3, 1, 2))
    assert len([path for path in (tmp_path / "scratch").iterdir() if path.suffix == ".npy"]) <= 1  # only what is used


FID = Evaluate(extractors=("classifier",), metrics=("fid",))
WRONG = {
    "absent": (lambda at: at, "no such file"),
    "floats": (lambda at: write_npy(at, SIX / 255), "float64"),
    "shape": (lambda at: write_npy(at, SIX[:, :3]), r"shape \(6, 3, 4, 1\)"),
    "names": (lambda at: Path(np.savez(at.with_suffix(".npz"), a=SIX, b=SIX) or at.with_suffix(".npz")), "2 arrays"),
    "size": (lambda at: write_pngs(at, SIX[:, :3]), r"00000\.png: L of 4x3; allowed.*data.image_size.*: L of 4x4"),
    "damaged": (lambda at: [write_pngs(at, SIX), (at / "00003.png").write_bytes(b"x")] and at, r"00003\.png: not an"),
    "copies": (lambda at: write_npy(at, np.repeat(SIX, 20, axis=0)), "of 120 images only 6 differ"),
    "another file": (lambda at: [at.write_bytes(b"x")] and at, r"drawn: allowed: .*\.npy"),
    # before one is decoded
    "too many": (lambda at: write_npy(at, np.zeros((151, 2, 2), np.float32)), "151 images; allowed: at most 150"),
    "too many files": (lambda at: write_broken(at, 151), "151 images; allowed: at most 150"),
    "a link": (lambda at: [write_pngs(at, SIX), (at / "9.png").symlink_to("/proc/self/mem")] and at, r"9\.png: a link"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_refused_in_one_line(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "MOST", 150)
    make, reason = WRONG[wrong]
    (tmp_path / "scratch").mkdir()
    with pytest.raises(UserError, match=reason) as refused:
        score._read_set(make(tmp_path / "drawn"), SHAPE, FID, tmp_path / "scratch")
    assert "\n" not in str(refused.value)


def test_what_was_unpacked_is_removed_when_it_is_stopped(monkeypatch):
    before = signal.getsignal(signal.SIGTERM)

    def stop(*_) -> None:
        with score.TemporaryDirectory(prefix="ddpm-score-") as folder:
            seen.append(Path(folder))
            os.kill(os.getpid(), signal.SIGTERM)

    seen: list[Path] = []
    monkeypatch.setattr(score, "score", stop)
    try:
        assert command.run("score", "x.npy", "--seed", "0") == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not seen[0].exists()


def test_another_run_s_record_is_not_overwritten(folder):
    one = bare(1, name="a b/c", params={}, scores={"classifier.fd": 1.0})
    path = score.write_record(one, None)
    assert path == Path("metrics/scored/a_b_c-1.json")
    assert score.write_record(one, None) == path
    other = one.model_copy(update={"scores": {"classifier.fd": 2.0}})
    with pytest.raises(UserError, match="another run"):
        score.write_record(other, None)
    assert score.write_record(other, Path("elsewhere.json")).exists()
    assert record.read_record(path) == one
