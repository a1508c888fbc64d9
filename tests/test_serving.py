"""The current model in the registry of a real SQLite store, loaded and served as MLflow's users do."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from PIL import Image

from ddpm import cli
from ddpm.base import files
from ddpm.base.paths import MODEL_FILE
from ddpm.model.file import load_model, save_model
from ddpm.sampling.generator import Generator
from ddpm.sampling.samples import noise_seed
from ddpm.sampling.settings import Sample
from ddpm.tracking import serving, store, syncing, tracker
from ddpm.variants.samplers import ddim
from tests.small import PARAMS

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path, empty_store: bytes, model_file: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The working folder's run; its stages count as up to date."""
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DDPM_TRACKING", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", *store.SETTINGS):
        monkeypatch.setenv(name, "")  # so that changes made by the code are undone too
        monkeypatch.delenv(name)
    Path("mlflow.db").write_bytes(empty_store)
    Path("params.yaml").write_text(json.dumps(PARAMS))
    MODEL_FILE.parent.mkdir(parents=True)
    shutil.copy(model_file, MODEL_FILE)
    client = store.Store().client
    tags = {syncing.NOTE: "**the scores**", syncing.KEY: "k3y", "mlflow.source.git.commit": "c0ffee"}
    made = client.create_run(client.create_experiment("ddpm"), tags=tags)
    monkeypatch.setattr(tracker, "sync", lambda: made.info.run_id)
    return made


def expected(seed: int, count: int, steps: int = 5) -> list[np.ndarray[Any, Any]]:
    model = load_model(MODEL_FILE, CPU)
    options = Sample(count=count, sampler=ddim.DDIM(), steps=steps)
    drawn = Generator.of(model, options, CPU).images(range(count), noise_seed(0, seed), model.image_shape)
    return [image.numpy()[0] for image in drawn]


def decoded(texts: list[str]) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in texts]


def test_a_version_names_the_file_the_commit_and_the_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["track", "register"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("models:/ddpm/1: `mlflow models serve -m models:/ddpm/1 ")
    client = store.Store().client
    version = client.get_model_version("ddpm", "1")
    assert version.run_id == run.info.run_id
    assert version.description == "**the scores**"
    assert version.tags == {
        "dvc.path": "data/model/model.safetensors",
        "dvc.md5": hashlib.md5(MODEL_FILE.read_bytes(), usedforsecurity=False).hexdigest(),
        "ddpm.model.sha256": files.sha256(MODEL_FILE),
        "ddpm.run_key": "k3y",
        "git.commit": "c0ffee",
    }
    # only a changed model is registered again
    assert serving.register("ddpm", "champion") == "models:/ddpm/1"
    assert str(client.get_model_version_by_alias("ddpm", "champion").version) == "1"
    assert serving.register("another") == "models:/another/1"
    model = load_model(MODEL_FILE, CPU)
    save_model(MODEL_FILE, model.network.state_dict(), model.config, {"steps": 61})
    assert serving.register("ddpm") == "models:/ddpm/2"
    assert str(client.get_model_version_by_alias("ddpm", "champion").version) == "1"
    serving.register("ddpm", "champion")
    assert str(client.get_model_version_by_alias("ddpm", "champion").version) == "2"
    assert not list(Path("mlartifacts").rglob("*.pkl"))


def test_its_images_are_those_of_the_seed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = serving.register("ddpm")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.Store().uri)
    model = mlflow.pyfunc.load_model(uri)
    rows = pd.DataFrame({"seed": [7, 8], "count": [3, 1]})
    found = [decoded(texts) for texts in model.predict(rows)]
    np.testing.assert_array_equal(found[0], expected(7, 3))
    np.testing.assert_array_equal(found[1], expected(8, 1))
    (fewer,) = model.predict(rows[:1], params={"steps": 2})
    np.testing.assert_array_equal(decoded(fewer), expected(7, 3, steps=2))


@pytest.mark.parametrize(
    ("row", "params", "message"),
    [
        ({"seed": -1, "count": 1}, {}, "seeds"),
        ({"seed": 0, "count": 0}, {}, "count: 0 is not allowed: 1 to 256"),
        ({"seed": 0, "count": 257}, {}, "count: 257 is not allowed: 1 to 256"),
        ({"seed": 0, "count": 1}, {"sampler": "ddmi"}, "did you mean 'ddim'"),
        ({"seed": 0, "count": 1}, {"steps": 51}, "at most the model's T = 50"),
    ],
)
def test_a_request_for_what_does_not_exist_is_refused(
    row: dict[str, int], params: dict[str, Any], message: str, model_file: Path
) -> None:
    served = serving.Served(model_file)
    with pytest.raises(MlflowException, match=message):
        served.predict(pd.DataFrame([row]), {"sampler": "ddim", "steps": 5, "spacing": "uniform"} | params)


def test_the_rows_of_a_request_share_the_bound(model_file: Path) -> None:
    served = serving.Served(model_file)
    params = {"sampler": "ddim", "steps": 2, "spacing": "uniform"}
    with pytest.raises(MlflowException, match=r"count: \[200, 57\] is not allowed: 1 to 256"):
        served.predict(pd.DataFrame([{"seed": 0, "count": 200}, {"seed": 1, "count": 57}]), params)
    with pytest.raises(MlflowException, match=r"count: \[300, -100\] is not allowed"):
        served.predict(pd.DataFrame([{"seed": 0, "count": 300}, {"seed": 1, "count": -100}]), params)
    first, second = served.predict(pd.DataFrame([{"seed": 0, "count": 255}, {"seed": 1, "count": 1}]), params)
    assert (len(first), len(second)) == (255, 1)


@pytest.mark.parametrize(
    "name", ["", " ", "a'b", "x' or name != '", "a/b", "a:b", "a.b", "50%", 'a"b', "a\nb", "x" * 101]
)
def test_a_name_that_the_registry_cannot_hold_is_refused(
    run: Run, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["track", "register", "--name", name])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --name: ")
    assert line.endswith("is not allowed: 1 to 100 letters, digits, spaces, - and _")
    assert store.Store().client.search_registered_models() == []


def test_any_other_name_is_one(run: Run) -> None:
    for name in ("Zahlen - groß_2", "digits"):
        assert serving.register(name) == serving.register(name) == f"models:/{name}/1"


@pytest.mark.slow
def test_it_is_served_over_http(run: Run) -> None:
    uri = serving.register("ddpm")
    assert uri
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", uri, "--env-manager", "local", "--host", "127.0.0.1", "-p", str(port)]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": store.Store().uri,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}/invocations"
            answer = ask(url, {"dataframe_records": [{"seed": 7, "count": 2}], "params": {"sampler": "ddim"}})
            np.testing.assert_array_equal(decoded(answer["predictions"][0]), expected(7, 2))
            for row, params, message in (
                ({"seed": 7, "count": 2}, {"steps": 51}, "at most the model's T = 50"),
                ({"seed": 7, "count": 10**9}, {}, "count: 1000000000 is not allowed: 1 to 256"),
            ):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    ask(url, {"dataframe_records": [row], "params": params})
                assert refused.value.code == 400
                assert message in json.load(refused.value)["message"]
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def ask(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
