"""Data in many files: the same as in one, made by processes, resumable, and never read when it is not asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.base.files import sha256
from ddpm.data.preprocessing import preprocess, preprocess_line
from ddpm.data.processed import open_split, read_manifest
from ddpm.data.settings import Data
from ddpm.training.checkpoints import Checkpoints
from ddpm.training.trainer import train
from ddpm.variants.datasets.arrays import Arrays
from ddpm.variants.datasets.image_folder import ImageFolder
from stages import __main__ as runner
from tests.small import Memory, small

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
COUNT = 100  # images of 8x8x1, of which 90 are train images
LIMIT = 18 * 8 * 8  # bytes: five shards of train images, one file of test images


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Random arrays of two classes in tmp_path/raw."""
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "own.npz",
        images=random.integers(0, 256, (COUNT, 8, 8), np.uint8),
        labels=random.integers(0, 2, COUNT),
    )
    made = Data(dataset=Arrays(), source=str(tmp_path / "own.npz"), image_size=8, channels=1)
    made.dataset.download(made.source, tmp_path / "raw")
    return made


def made(data: Data, folder: Path, name: str, workers: int = 1, **options: Any) -> Path:
    preprocess(data, folder / "raw", folder / name, workers, **options)
    return folder / name


def test_shards_hold_the_same_images_as_one_file(data: Data, tmp_path: Path) -> None:
    one, many = made(data, tmp_path, "one"), made(data, tmp_path, "many", shard_bytes=LIMIT, workers=2)
    assert sorted(path.name for path in (one / "train").iterdir()) == ["images.npy", "labels.npy"]
    assert sorted(path.name for path in (many / "train").iterdir()) == [
        *(f"images-0000{number}.npy" for number in range(5)),
        "labels.npy",
    ]
    assert "shards" not in json.loads((one / "manifest.json").read_text())
    manifest = read_manifest(many)
    assert [shard.count for shard in manifest.shards["train"]] == [18] * 5
    assert list(manifest.shards) == ["train"]
    assert (one / "dataset.png").read_bytes() == (many / "dataset.png").read_bytes()
    (images, labels), (same, same_labels) = open_split(one, "train"), open_split(many, "train")
    np.testing.assert_array_equal(np.array(same), images)
    np.testing.assert_array_equal(same_labels, labels)
    assert (same.shape, same.nbytes, len(same)) == (images.shape, images.nbytes, len(images))
    for rows in (
        slice(None),
        slice(17, 37),
        slice(0, 90, 7),
        slice(80, 200),
        slice(5, 5),
        np.array([89, 0, 17, 18, 0]),
    ):
        np.testing.assert_array_equal(same[rows], images[rows])
    for split in ("train", "test"):
        assert manifest.sha256[split] == sha256(many / split)  # type: ignore[index]
        for number, shard in enumerate(manifest.shards.get(split, ())):  # type: ignore[call-overload]
            assert shard.sha256 == sha256(many / split / f"images-0000{number}.npy")


@pytest.mark.parametrize("rows", [np.array([-1]), np.array([0, 90])])
def test_rows_that_are_not_there_are_refused(data: Data, tmp_path: Path, rows: np.ndarray) -> None:
    images, _ = open_split(made(data, tmp_path, "many", shard_bytes=LIMIT), "train")
    with pytest.raises(IndexError):
        images[rows]


def test_a_training_from_shards_makes_the_same_bytes(data: Data, tmp_path: Path) -> None:
    config = small(train={"steps": 20, "batch_size": 8, "horizontal_flip": True}).training()
    models = []
    for name, limit in {"one": 10**9, "many": LIMIT}.items():
        images, _ = open_split(made(data, tmp_path, name, shard_bytes=limit), "train")
        train(config, images, CPU, tmp_path / f"{name}.model", Checkpoints(name), Memory())
        models.append((tmp_path / f"{name}.model/model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_broken_images_are_left_out_and_an_empty_shard_is_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "source/train"
    folder.mkdir(parents=True)
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:02d}.png")
    (tmp_path / "source/test").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "source/test/a.png")
    for number in (0, 5, 6, 7, 8, 9):
        (folder / f"{number:02d}.png").write_bytes(b"none")
    data = Data(dataset=ImageFolder(), image_size=8, channels=3, on_error="skip")
    data.dataset.download(str(tmp_path / "source"), tmp_path / "raw")
    many = made(data, tmp_path, "many", shard_bytes=5 * 8 * 8 * 3)
    manifest = read_manifest(many)
    assert ([shard.count for shard in manifest.shards["train"]], manifest.skipped) == ([4, 5, 5], 6)
    images, labels = open_split(many, "train")
    assert images[:][:, 0, 0, 0].tolist() == [1, 2, 3, 4, *range(10, 20)]
    assert len(labels) == 14


def test_finished_shards_are_not_made_again(data: Data, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A process is killed while it makes the fourth shard; then the first is found to be damaged."""
    parts = tmp_path / "parts"
    script = (
        "import sys; from tests.test_shards import *\n"
        "data = Data(dataset=Arrays(), image_size=8, channels=1)\n"
        f"if __name__ == '__main__': preprocess(data, Path('raw'), Path('done'), 1, Path('parts'), {LIMIT})"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not (parts / "train/images-00001.json").exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "done").exists()
    (parts / "train/images-00000.npy").write_bytes(b"damaged")
    before = (parts / "train/images-00001.npy").stat()
    again = made(data, tmp_path, "again", parts=parts, shard_bytes=LIMIT)
    assert (again / "train/images-00001.npy").stat().st_mtime_ns == before.st_mtime_ns
    assert sha256(again) == sha256(made(data, tmp_path, "whole", shard_bytes=LIMIT))
    assert not parts.exists()


def test_two_processes_do_not_make_the_same_shards(data: Data, tmp_path: Path) -> None:
    (tmp_path / "parts/train").mkdir(parents=True)
    lock = files.try_lock(tmp_path / "parts/train")
    with pytest.raises(UserError, match="another process"):
        made(data, tmp_path, "many", parts=tmp_path / "parts", shard_bytes=LIMIT)
    assert lock is not None
    os.close(lock)


@pytest.mark.parametrize("held", ["train", "test"])
def test_a_refused_call_holds_neither_split(data: Data, tmp_path: Path, held: str) -> None:
    """10 test images in two shards, so that both splits have some."""
    parts = tmp_path / "parts"
    for split in ("train", "test"):
        (parts / split).mkdir(parents=True)
    lock = files.try_lock(parts / held)
    with pytest.raises(UserError, match="another process"):
        preprocess_line(data, tmp_path / "raw", parts, 1, 1, 1, LIMIT // 3)
    other = files.try_lock(parts / {"train": "test", "test": "train"}[held])
    assert lock is not None
    assert other is not None
    os.close(lock)
    os.close(other)


def test_machines_share_the_shards_out(data: Data, tmp_path: Path) -> None:
    """Three lines of five shards, one while another runs, and the second is never called."""
    parts = tmp_path / "parts"
    (parts / "train").mkdir(parents=True)
    other = files.try_lock(parts / "train", shared=True)
    assert preprocess_line(data, tmp_path / "raw", parts, 1, 3, 1, LIMIT) == (2, 5)
    with pytest.raises(UserError, match="another process"):  # it would take the shards away from the other
        made(data, tmp_path, "many", parts=parts, shard_bytes=LIMIT)
    assert other is not None
    os.close(other)
    assert preprocess_line(data, tmp_path / "raw", parts, 3, 3, 1, LIMIT) == (1, 5)
    assert sorted(path.name for path in parts.glob("*/*.npy")) == [f"images-0000{number}.npy" for number in (0, 2, 3)]
    before = (parts / "train/images-00003.npy").stat().st_mtime_ns
    many = made(data, tmp_path, "many", parts=parts, shard_bytes=LIMIT)
    assert (many / "train/images-00003.npy").stat().st_mtime_ns == before
    assert sha256(many) == sha256(made(data, tmp_path, "whole", shard_bytes=LIMIT))


def test_a_line_without_shards_makes_nothing(data: Data, tmp_path: Path) -> None:
    assert preprocess_line(data, tmp_path / "raw", tmp_path / "parts", 6, 6, 1, LIMIT) == (0, 5)
    assert preprocess_line(data, tmp_path / "raw", tmp_path / "parts", 1, 1, 1) == (0, 0)
    assert not (tmp_path / "parts").exists()


def test_a_file_is_open_only_while_it_is_read(data: Data, tmp_path: Path) -> None:
    images, _ = open_split(made(data, tmp_path, "many", shard_bytes=LIMIT), "train")
    images[np.array([3, 88])]
    assert "images-0000" not in Path("/proc/self/maps").read_text()
    (tmp_path / "many/train/images-00002.npy").unlink()
    images[:36]
    with pytest.raises(UserError, match=r"images-00002\.npy: missing or damaged"):
        images[:37]


def test_the_commands_of_two_machines_and_then_dvc_make_what_one_would(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With a smaller size of shards: five of train images, two of test images."""
    for name in ("ddpm", "stages", "dvc.yaml"):
        (tmp_path / name).symlink_to(ROOT / name)
    params = yaml.safe_load((ROOT / "ddpm/presets/digits.yaml").read_text())
    params["data"] |= {"dataset": {"name": "arrays"}, "image_size": 8}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "data").mkdir()
    (tmp_path / "raw").rename(tmp_path / "data/raw")
    (tmp_path / "data/checked").touch()
    monkeypatch.setattr(preprocess_line, "__defaults__", (1, LIMIT))
    monkeypatch.setattr(preprocess, "__defaults__", (1, None, LIMIT))
    monkeypatch.setattr(runner, "die_with_parent", lambda: None)
    for line, told in (("1/2", "4 of 7"), ("2/2", "3 of 7")):
        with pytest.raises(SystemExit) as stopped:
            runner.main(["preprocess", "--line", line])
        assert stopped.value.code == 0
        assert f"{told} shards are made; `dvc repro` makes what is missing" in capfd.readouterr().err
    (parts,) = (tmp_path / ".ddpm/shards").iterdir()
    before = [path.stat().st_mtime_ns for path in sorted(parts.glob("train/*.npy"))]
    with pytest.raises(SystemExit) as stopped:
        runner.main(["preprocess"])
    assert stopped.value.code == 0
    assert [path.stat().st_mtime_ns for path in sorted(Path("data/processed/train").glob("images-*.npy"))] == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["preprocess", "--line", "3/2"], "'3/2' is not allowed: K/N, with K from 1 to N"),
        (["preprocess", "--line", "0/2"], "'0/2' is not allowed"),
        (["preprocess", "--line", "1"], "'1' is not allowed"),
        (["train", "--line", "1/2"], "train has no shards to make; it is for preprocess"),
    ],
)
def test_a_line_that_cannot_be_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        runner.main(arguments)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
