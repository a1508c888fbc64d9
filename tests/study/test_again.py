"""A study's records made again, and what experiments leave deleted."""

import json
from pathlib import Path

import pytest
import yaml

from ddpm.arms import pool, revision
from ddpm.base.locks import lock
from tests.study_project import NAMES, PLAN, STUDY, change, commit, git, ran, records, study

TINY = str(PLAN)


def test_the_params_of_a_run_are_those_of_its_record(lab, capsys):
    PLAN.write_text(STUDY.replace("cosine}", "cosine, train.steps: 9}"))
    commit("a study")
    assert study("run", TINY, "--line", "3") == 0
    assert study("params", TINY, "cosine", "1") == 0
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert (params["seed"], params["train"]["steps"], params["diffusion"]["schedule"]["name"]) == (1, 9, "cosine")
    assert study("params", TINY, "linear", "0") == 2  # what is not committed is not overwritten
    assert "params.yaml: has uncommitted changes" in capsys.readouterr().err
    git("checkout", "params.yaml")
    for arm, seed in (("cosine", "2"), ("sigmoid", "0")):
        assert study("params", TINY, arm, seed) == 2
        assert "allowed: an arm (cosine, linear)" in capsys.readouterr().err


@pytest.mark.slow
def test_an_audit_makes_records_again_and_finds_what_was_invented(project, capsys):
    assert study("run", TINY) == 0
    before, trained = records(), len(ran())
    capsys.readouterr()
    assert study("audit", TINY, "-n", "9") == 0
    assert {line.split(": ")[0] for line in capsys.readouterr().out.splitlines()} == {*NAMES}
    assert len(ran()) > trained + len(NAMES)  # data, too, are made again
    assert records() == before
    change("linear-1", scores={"classifier.fd": 0.5})
    assert study("audit", TINY, "-n", "9", "--json") == 1
    findings = {row["name"]: row["difference"] for row in json.loads(capsys.readouterr().out)}
    assert findings == dict.fromkeys(NAMES) | {"linear-1": ["scores.classifier.fd", 0.5, pytest.approx(1.1)]}
    change("linear-1", code={"stages/__main__.py": "0" * 32})
    assert study("audit", TINY, "-n", "9") == 1
    assert "other code: stages/__main__.py" in capsys.readouterr().out


@pytest.mark.slow
def test_an_audit_begins_with_what_is_said_to_diverge_and_runs_code_that_nobody_has_edited(project, capsys):
    PLAN.write_text(f"{STUDY}tune: {{train.learning_rate: [0.6, 0.01], seeds: 2}}\n")
    commit("two values")
    for line in ("1", "3", "4"):
        assert study("run", TINY, "--line", line) == 0
    diverged, one, _ = (records()[name] for name in ("cosine-tune-1-1", "cosine-tune-2-1", "linear-tune-2-1"))
    assert len(records()) == 3
    assert (diverged["code"], diverged["environment"]["processor"]) == (one["code"], "a CPU")
    change("linear-tune-2-1", diverged="train: out of range", scores={})
    [stage] = Path(".ddpm/code").glob("*/stages/__main__.py")
    stage.write_text(stage.read_text().replace("> 0.5", "> 0.001"))
    capsys.readouterr()
    assert study("audit", TINY, "-n", "2", "--json") == 1
    found = {row["name"]: row["difference"] for row in json.loads(capsys.readouterr().out)}
    assert found.keys() == {"cosine-tune-1-1", "linear-tune-2-1"}
    assert found["cosine-tune-1-1"] is None
    assert found["linear-tune-2-1"] == ["diverged", True, False]


def test_what_experiments_leave_is_deleted_but_not_while_one_runs(project, capsys):
    code = revision.export(revision.head())
    for folder in (pool.FOLDER, pool.FOLDER / "audit-1" / pool.FOLDER):
        with lock(folder / "x.lock"):
            assert study("clean") == 2
            assert "x.lock: process " in capsys.readouterr().err
    assert study("clean") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("MiB freed")
    assert not pool.FOLDER.exists()
    assert not code.exists()
    assert study("clean") == 0
