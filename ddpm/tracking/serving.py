"""The current model in MLflow's registry, and how ``mlflow models serve`` serves it: images over HTTP.

A version names the file that DVC tracks, the commit and the run. It holds a copy of that file and the name of this
module, which reads it; nothing is pickled.
"""

from __future__ import annotations

import base64
import io
import re
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from ddpm.base import files, variant
from ddpm.base.errors import UserError
from ddpm.base.paths import MODEL_FILE
from ddpm.base.settings import section
from ddpm.compute import devices
from ddpm.model import averages
from ddpm.model.file import load_model
from ddpm.params import config
from ddpm.pictures.channels import visible
from ddpm.sampling.generator import Generator
from ddpm.sampling.samples import noise_seed
from ddpm.sampling.settings import Sample
from ddpm.tracking import tracker
from ddpm.tracking.record import KEY, NOTE
from ddpm.tracking.store import Store

SHA256 = "ddpm.model.sha256"
OF_RUN = {"git.commit": "mlflow.source.git.commit", KEY: KEY, "ddpm.git.dirty": "ddpm.git.dirty"}  # tag -> the run's
MOST_IMAGES = 256  # per request: a server draws for others too
NAME = re.compile(r"[\w -]{1,100}")  # MLflow refuses / : . % and quotes only after doing half of the work


def register(name: str, alias: str = "") -> str | None:
    """The URI of the current model's version, created if there is none; None if tracking is off.

    alias: of the registered model, moved to that version. The model's run is brought up to date first. Raises UserError
    like ``tracker.sync()``, and for a name that MLflow refuses.
    """
    if not NAME.fullmatch(name) or not name.strip():
        raise UserError(f"--name: {variant.shown(name)} is not allowed: 1 to 100 letters, digits, spaces, - and _")
    run_id, store = tracker.sync(), Store(strict=True)

    def write() -> str:
        uri = _register(store, str(run_id), name)
        if alias:
            store.client.set_registered_model_alias(name, alias, uri.rpartition("/")[2])
        return uri

    return run_id and store.attempt(write)


def _register(store: Store, run_id: str, name: str) -> str:
    import mlflow
    from mlflow.entities import LoggedModelOutput
    from pandas import DataFrame

    with store.locked(), tempfile.TemporaryDirectory() as folder:
        client, run, scored = store.client, store.client.get_run(run_id), MODEL_FILE
        if (length := config.load().sample.ema_length) is not None:  # the run's scores are of that average
            scored = Path(folder) / MODEL_FILE.name
            averages.save(MODEL_FILE, length, scored)
        tags = {"dvc.path": str(MODEL_FILE), "dvc.md5": files.md5(MODEL_FILE), SHA256: files.sha256(scored)}
        tags |= {tag: run.data.tags[key] for tag, key in OF_RUN.items() if key in run.data.tags}
        for known in client.search_model_versions(f"run_id = '{run_id}'"):
            if known.name == name and known.tags.get(SHA256) == tags[SHA256]:
                return f"models:/{name}/{known.version}"
        logged = client.create_logged_model(run.info.experiment_id, name, run_id, tags, run.data.params)
        mlflow.pyfunc.save_model(
            f"{folder}/model",
            mlflow_model=mlflow.models.Model(run_id=run_id, model_id=logged.model_id),
            loader_module=__name__,
            data_path=str(scored),
            signature=_signature(),
            input_example=DataFrame([{"seed": 0, "count": 4}]),
            pip_requirements=[],  # the package itself, which is on no index
        )
        client.log_model_artifacts(logged.model_id, f"{folder}/model")
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        source, note = logged.artifact_location, run.data.tags.get(NOTE)
        made = client.create_model_version(name, source, run_id, tags, description=note, model_id=logged.model_id)
        return f"models:/{name}/{made.version}"


def _signature() -> Any:
    """Rows of (seed, count), and params.yaml's values as defaults for a request's params."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    sample = config.load().sample
    params = [
        ParamSpec("sampler", "string", sample.sampler.name),
        ParamSpec("steps", "long", sample.steps),
        ParamSpec("spacing", "string", sample.spacing),
    ]
    rows = Schema([ColSpec("long", "seed"), ColSpec("long", "count")])
    return ModelSignature(rows, Schema([ColSpec(Array("string"))]), ParamSchema(params))


class Served:
    """A model file that draws the images of `ddpm sample` with the same seed, sampler, steps and spacing."""

    def __init__(self, path: Path):
        self.device = devices.resolve("auto")
        self.model = load_model(path, self.device)

    def predict(self, rows: Any, params: dict[str, Any]) -> list[list[str]]:
        """``count`` PNG files in base64 for each row of the data frame: images 0, 1, ... of its ``seed``."""
        from mlflow.exceptions import MlflowException

        try:
            counts = rows["count"].tolist()
            if min(counts, default=1) < 1 or sum(counts) > MOST_IMAGES:
                shown = variant.shown(counts[0] if len(counts) == 1 else counts)
                raise UserError(f"count: {shown} is not allowed: 1 to {MOST_IMAGES} images in all rows of a request")
            sampler = variant.build("samplers", {"name": params["sampler"]}, "sampler")
            asked = [
                section(Sample, {**params, "sampler": sampler, "seeds": (seed,), "count": count})
                for seed, count in zip(rows["seed"].tolist(), counts, strict=True)
            ]
            return [self._images(options) for options in asked]
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error  # an answer with code 400

    def _images(self, options: Sample) -> list[str]:
        generator = Generator.of(self.model, options, self.device)
        seed = noise_seed(self.model.config.seed, options.seeds[0])
        batches = generator.batches(options.count, options.batch_size, seed, self.model.image_shape)
        return [_png(image) for _, batch in batches for image in batch]


def _png(image: Tensor) -> str:
    file = io.BytesIO()
    to_pil_image(image[visible(len(image))]).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def _load_pyfunc(path: str) -> Served:
    """The function name that MLflow expects in a model's module."""
    return Served(Path(path))
