"""Fixtures that several test files share."""

import contextlib
import gc
import io
import math
import os
import shutil
import signal
import sys
from pathlib import Path

# before torch is imported: two test workers with two threads each wait for each other, seven times slower
os.environ.setdefault("OMP_NUM_THREADS", "1")
# this Python's dvc, torchrun and ddpm, whether or not its environment is active
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

import numpy as np
import psutil
import pytest
from hypothesis import settings
from PIL import Image

from ddpm.base.locks import lock
from ddpm.data.preprocessing import preprocess
from ddpm.data.processed import open_split
from ddpm.params import config
from ddpm.report import blocks

ROOT = Path(__file__).parent.parent
LIMIT, SLOW_LIMIT = 180, 900  # seconds, ten times what they take on a quiet machine; a busy one gets more
# what a user, DVC, a git hook or the make that started the tests has set is not what a test is about
FOREIGN = ("DVC_", "MLFLOW_", "GIT_", "DDPM_", "MAKE", "MFLAGS", "TESTS", "ARGS")
for name in list(os.environ):
    if name.startswith(FOREIGN) and not name.startswith("DDPM_TEST"):
        del os.environ[name]
os.environ |= {"DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
os.environ |= {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
# how long an example takes says how busy the machine is
settings.register_profile("busy", deadline=None, max_examples=30)
settings.load_profile("busy")


def pytest_sessionstart() -> None:
    """What is collected stays to the end: looking for garbage in it, again and again, takes seconds."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """Or nanobind, which Triton uses, reports what was frozen as leaked."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): the folder that ``make`` fills, in one of the test workers for all of them. Read only."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def folder(name: str, make) -> Path:
        whole, half = root / name, root / f"{name}.half"
        with lock(root / f"{name}.lock", math.inf):
            if not whole.exists():
                shutil.rmtree(half, ignore_errors=True)  # of a worker that failed
                half.mkdir()
                make(half)
                half.rename(whole)
        return whole

    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_and_no_sharing(tmp_path_factory):
    """No test cuts the power: tests/base/test_files.py tests what is synced, and when. DVC's own place for its locks
    and indices is one for the whole machine."""
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.getbasetemp() / "dvc-site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _limits(request):
    """A test that hangs fails, with its processes; and no test's environment, folder or threads are the next one's."""
    environment, folder = dict(os.environ), Path.cwd()

    def end(*_: object) -> None:
        for process in psutil.Process().children(recursive=True):
            process.kill()
        pytest.fail(f"hung for {limit} seconds")

    slow = any(request.node.get_closest_marker(name) for name in ("slow", "long"))
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    limit = SLOW_LIMIT if slow else min(SLOW_LIMIT, round(LIMIT * busy))
    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    os.chdir(folder)
    if os.environ != environment:
        os.environ.clear()
        os.environ.update(environment)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Pages have noise instead of plots, each of which takes a third of a second; tests/report has tests of them."""
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(noise, "PNG")
    monkeypatch.setattr(blocks.Figure, "png", lambda _: noise.getvalue())


@pytest.fixture
def repository(tmp_path, monkeypatch, once, undrawn) -> None:
    """The working folder is a repository with a program, a ladder and a study of it, a copy: git takes longer."""
    from tests.programs.repository import build

    def make(folder: Path) -> None:
        with contextlib.chdir(folder):
            build()

    shutil.copytree(once("repository", make), tmp_path / "repo")
    monkeypatch.chdir(tmp_path / "repo")
    monkeypatch.setenv("COUNT", str(tmp_path / "count"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """The working folder, which is empty."""
    (tmp_path / "work").mkdir()
    os.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def project(tmp_path, monkeypatch, undrawn) -> Path:
    """The working folder, with tests/study_project.py's project in it."""
    from tests.study_project import enter, make

    make(tmp_path / "project")
    enter(tmp_path / "project", monkeypatch)
    return tmp_path / "project"


@pytest.fixture(scope="session")
def digits(once) -> Path:
    """The processed folder of the digits preset: 16x16x1, the split that the shipped classifier knows. Read only."""

    def make(folder: Path) -> None:
        params = config.load(ROOT / "ddpm/presets/digits_2026.yaml")
        params.data.dataset.download(params.data.source, folder / "raw")
        preprocess(params.data, folder / "raw", folder / "processed")

    return once("digits", make) / "processed"


@pytest.fixture(scope="session")
def held_out(digits) -> np.ndarray:
    """Their test images, uint8 (359, 1, 16, 16)."""
    return np.array(open_split(digits, "test")[0])


@pytest.fixture(scope="session")
def classifier_reference(digits, once) -> Path:
    """Their reference folder, for the classifier alone. Read only."""
    import torch

    from ddpm.scoring.evaluate_params import Evaluate
    from ddpm.scoring.reference import make_reference

    settings, cpu = Evaluate(extractors=("classifier",)), torch.device("cpu")
    return once("reference", lambda at: make_reference(settings, digits, at / "reference", cpu)) / "reference"


@pytest.fixture(scope="session")
def real(classifier_reference):
    """The classifier's features of them."""
    import torch

    from ddpm.scoring.reference import load_features

    return load_features(classifier_reference, "classifier", torch.device("cpu"))


@pytest.fixture(scope="session")
def empty_store(once) -> bytes:
    """The SQLite file of an MLflow store without experiments: to make its tables takes seconds."""
    from mlflow import MlflowClient

    def make(folder: Path) -> None:
        MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return (once("store", make) / "mlflow.db").read_bytes()


@pytest.fixture
def preprocessed(tmp_path, digits, empty_store, monkeypatch) -> Path:
    """The working folder, in which download and preprocess have run with quick params."""
    from tests.small_project import QUICK, lay_out

    monkeypatch.chdir(tmp_path)
    lay_out(tmp_path, digits, **QUICK)
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return tmp_path


@pytest.fixture(scope="session")
def model_file(once) -> Path:
    """The file of tests/small.py's model, trained for a second. Read only."""
    import torch

    from ddpm.training.checkpoints import Checkpoints
    from ddpm.training.trainer import train
    from tests.small import Memory, pictures, small

    def make(folder: Path) -> None:
        checkpoints = Checkpoints("model")
        checkpoints.folder = folder / "checkpoints"
        options = small(train={"steps": 60, "learning_rate": 5e-3}).training()
        train(options, pictures(), torch.device("cpu"), folder, checkpoints, Memory())

    return once("model", make) / "model.safetensors"
