"""A study's records made again, and what experiments leave deleted."""

import json
import re
import time
from pathlib import Path

import pytest
import yaml

from ddpm.study import pool
from tests import study_project
from tests.study_project import NAMES, PLAN, RESULTS, STUDY, commit, ran, records, start, study, until

TINY = str(PLAN)


@pytest.fixture(autouse=True)
def _done(project) -> None:
    PLAN.write_text(STUDY.replace("cosine}", "cosine, train.steps: 9}"))
    commit("a study")
    assert study("run", TINY) == 0


def forge(name: str, **values: object) -> None:
    (RESULTS / f"runs/{name}.json").write_text(json.dumps(records()[name] | values))


def test_the_params_of_a_run_are_those_of_its_record(capsys):
    assert study("params", TINY, "cosine", "1") == 0
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert (params["seed"], params["train"]["steps"], params["diffusion"]["schedule"]["name"]) == (1, 9, "cosine")
    assert study("params", TINY, "linear", "0") == 2  # what is not committed is not overwritten
    assert "params.yaml: has uncommitted changes" in capsys.readouterr().err
    study_project.git("checkout", "params.yaml")
    for arm, seed in (("cosine", "2"), ("sigmoid", "0")):
        assert study("params", TINY, arm, seed) == 2
        assert "allowed: an arm (cosine, linear)" in capsys.readouterr().err


@pytest.mark.slow
def test_an_audit_makes_records_again_and_finds_what_was_invented(capsys):
    before, trained = records(), len(ran())
    assert study("audit", TINY, "-n", "9") == 0
    assert {line.split(": ")[0] for line in capsys.readouterr().out.splitlines()} == {*NAMES}
    assert len(ran()) > trained + len(NAMES)  # data, too, are made again
    assert records() == before
    forge("linear-1", scores={"classifier.fd": 0.5})
    assert study("audit", TINY, "-n", "9", "--json") == 1
    findings = {row["name"]: row["score"] for row in json.loads(capsys.readouterr().out)}
    assert findings == dict.fromkeys(NAMES) | {"linear-1": ["classifier.fd", 0.5, pytest.approx(1.1)]}
    Path("control/fail-linear-1").write_text("9")
    assert study("audit", TINY, "-n", "9") == 2
    assert Path(re.search(r"; (\S+) has the whole output", capsys.readouterr().err)[1]).exists()
    Path("control/fail-linear-1").unlink()
    forge("linear-1", environment={"processor": "another CPU", "training_precision": "float32"})
    assert study("audit", TINY, "-n", "9") == 3
    assert "processor another CPU, here a CPU" in capsys.readouterr().out
    forge("linear-1", code={"stages/__main__.py": "0" * 32})
    assert study("audit", TINY, "-n", "9") == 3
    assert "other code: stages/__main__.py" in capsys.readouterr().out


def test_what_experiments_leave_is_deleted_but_not_while_one_runs(capsys):
    Path("control/sleep").write_text("60")
    (RESULTS / "runs/cosine-0.json").unlink()
    trained = len(ran())
    other = start(TINY, "--line", "1")
    until("train cosine 0", at=trained)
    assert study("clean") == 2
    assert "is running" in capsys.readouterr().err
    Path("control/sleep").unlink()
    assert other.wait(timeout=300) == 0
    Path("control/sleep").write_text("60")
    trained = len(ran())
    other = start(TINY, "-n", "4", "--slots", "4", group=("study", "audit"))
    until("train cosine 0", at=trained)
    assert study("clean") == 2
    other.kill()
    other.wait()
    Path("control/sleep").unlink()
    assert any(pool.FOLDER.iterdir())
    while study("clean"):  # all processes of the audit have to end
        time.sleep(0.1)
    assert capsys.readouterr().out.splitlines()[-1].endswith("MiB freed")
    assert not pool.FOLDER.exists()
    assert not [path for path in Path(".ddpm").rglob("audit-*") if path.is_dir()]
    assert study("verdict", TINY) == 0
    assert study("clean") == 0
