"""A study in MLflow: the real pipeline, small, and a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from ddpm import cli
from tests import study_project
from tests.study_project import PLAN, STUDY, commit, study
from tests.test_pipeline import PARAMS, ROOT, Clone

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a small study of which two experiments have run."""
    folder = tmp_path / "project"
    study_project.git("clone", "--quiet", str(ROOT), str(folder))
    monkeypatch.chdir(folder)
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in Clone(folder).environment.items():
        monkeypatch.setenv(name, value)
    params = YAML().load(Path("params.yaml"))
    for section, values in PARAMS.items():
        params[section].update(values)
    params["model"]["unet"].pop("patch_size", None)
    params["train"].update(steps=4, grid_every=0)
    params["evaluate"].update(metrics=["fid"], likelihood={"images": 0})
    params["compare"]["confidence"] = 0.5
    YAML().dump(params, Path("params.yaml"))
    PLAN.write_text(STUDY)
    commit("a small study")
    study_project.install(monkeypatch)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    for line in "12":
        assert study("run", str(PLAN), "--line", line) == 0
    return folder


def test_a_study_is_a_run_with_its_experiments_as_children(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sync() -> str:
        with pytest.raises(SystemExit) as left:
            cli.main(["track", "sync", "--study", str(PLAN)])
        said = capsys.readouterr()
        assert not left.value.code, said.err
        return said.out

    monkeypatch.delenv("DDPM_TRACKING")
    capsys.readouterr()
    Path(".dvc/cache").rename("elsewhere")  # records are enough
    for _ in range(2):
        assert sync() == "MLflow: the study tiny is complete; 2 runs below it\n"
    Path("elsewhere").rename(".dvc/cache")
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("ddpm").experiment_id])
    [parent] = (run for run in runs if "ddpm.study" in run.data.tags)
    assert (parent.info.run_name, parent.info.status) == ("study tiny", "FINISHED")
    children = {run.info.run_name.rpartition(" ")[2]: run for run in runs if run is not parent}
    assert children.keys() == {"tiny-cosine-0", "tiny-linear-0"}
    for name, run in children.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params["diffusion.schedule.name"] == name.split("-")[1]
        assert run.data.metrics["classifier.fd"] > 0
        assert run.info.status == "FINISHED"
    # nothing was left in the working folder
    assert study_project.git("status", "--porcelain") == ""

    # a page that is too long for MLflow ends with a whole line and says where the rest is
    verdict = Path("metrics/studies/tiny/verdict.md")
    verdict.parent.mkdir(parents=True)
    verdict.write_text("a line of a long verdict\n" * 1000)
    sync()
    note = client.get_run(parent.info.run_id).data.tags["mlflow.note.content"]
    assert 7900 < len(note) < 8000
    assert note.endswith("verdict\n\nThe rest is in verdict.md, among the run's artifacts.")
