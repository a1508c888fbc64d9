"""A working folder in which all stages have run, and what MLflow has of it."""

import shutil
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType
from PIL import Image

from ddpm.base import files
from ddpm.base.files import md5
from ddpm.params import config, file, inputs
from ddpm.runs import library, record
from ddpm.runs.record import Costs
from ddpm.tracking import tracker
from ddpm.training.history import LossRow
from tests.scored import bare

PRESET = Path(__file__).parents[1] / "ddpm/presets/digits_2026.yaml"
ROWS = [LossRow(step, 1.25 * step, 1 / step, 2e-3 / step, 3.0, 1e3 / 7) for step in range(1, 9)]
TRAIN = {"cmd": "true", "params": ["seed", "diffusion", "model", "train"], "deps": ["data/processed"]}


def enter(folder: Path, empty_store: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in that folder, with a store without a run for it."""
    write_folder(folder)
    (folder / "mlflow.db").write_bytes(empty_store)
    monkeypatch.chdir(folder)


def write_folder(root: Path) -> None:
    shutil.copy(PRESET, root / "params.yaml")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": TRAIN}}))
    write_record(root)
    files.write_rows(root / "metrics/loss.csv", [row._asdict() for row in ROWS])
    pictures = ("processed/dataset", "samples/grid", "samples/forward", "model/grids/step-4", "model/grids/step-8")
    for shade, name in enumerate(pictures):
        picture = root / "data" / f"{name}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), shade).save(picture)
    (root / "data/samples/reverse.mp4").write_bytes(b"a film")


def write_record(root: Path, fd: float = 1.5, name: str = "workspace") -> None:
    """The record of a run with params.yaml and dvc.yaml, which is its only code."""
    run = bare(
        name=name,
        params=library.relevant(config.parse(yaml.safe_load((root / "params.yaml").read_text())).flat()),
        code={"dvc.yaml": md5(root / "dvc.yaml")[:12]},
        comparable={"images": {"sha256": "1" * 64, "count": 1438}, "samples": 8},
        scores={"classifier.fd": fd, "classifier.kid_mean": 0.25, "bits_per_dim": 3.5},
        curve=record.table([{"images": 256, "classifier.fd": 2.5, "classifier.kid_mean": ""},
                            {"images": 512, "classifier.fd": fd, "classifier.kid_mean": 0.25}]),
        costs=Costs(images_seen=512, seconds={"train": 10.0}),
        environment={"processor": "a CPU"},
    )  # fmt: skip
    record.write_record(run, root / "metrics/run.json")


def client() -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{Path('mlflow.db').resolve()}")


def all_runs(view: int = ViewType.ACTIVE_ONLY) -> list:
    experiment = client().get_experiment_by_name("ddpm")
    return list(client().search_runs([experiment.experiment_id], run_view_type=view)) if experiment else []


def artifacts(run_id: str, folder: str = "") -> list[str]:
    found: list[str] = []
    for listed in client().list_artifacts(run_id, folder):
        found += artifacts(run_id, listed.path) if listed.is_dir else [listed.path]
    return sorted(found)


def live() -> tracker.Live:
    return tracker.Live(file.read_params(), inputs.read_inputs("train", params=file.read_params()).fingerprint())


def train(saved: list[LossRow], error: BaseException | None = None, lost=()) -> None:
    with live() as log:
        for row in saved:
            log.log(row)
        log.flush()
        for row in lost:
            log.log(row)
        if error:
            raise error
