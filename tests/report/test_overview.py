"""``ddpm runs``: every run in one table, in any state, by the thousand."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from ddpm.base.paths import RUN
from ddpm.params import config, presets
from ddpm.runs import library
from ddpm.runs.record import Costs, Record
from tests import command
from tests.scored import bare, params, record, working


@pytest.fixture(autouse=True)
def _project(folder) -> None:
    """A project in which nothing has run."""
    Path("params.yaml").write_text(yaml.safe_dump(params()))
    record(folder)


def of(seed: int = 0, fd: float = 1.0, at: int = 0, **changes) -> Record:
    """A record of params as ``params()`` takes them, finished at minute ``at``."""
    return bare(
        seed,
        finished=datetime(2026, 1, 1, 12, at, tzinfo=UTC),
        params=library.relevant(working(seed=seed, **changes).flat()),
        scores={"classifier.fd": fd, "real.classifier.fd": 0.1},
        costs=Costs(seconds={"train": 20.0, "sample": 2.4, "evaluate": 100.0}),
    )


def finished(folder: Path, **records: Record | str) -> None:
    """Put experiments with these records where DVC keeps its own."""
    texts = {name: held if isinstance(held, str) else held.text() for name, held in records.items()}
    record(folder, [(name, {str(RUN): text}) for name, text in texts.items()])


def rows(capsys: pytest.CaptureFixture[str]) -> dict:
    """The table's rows by name, in order."""
    assert command.run("runs", "--json") == 0
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def table(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert command.run("runs") == 0
    return capsys.readouterr().out.splitlines()


LINEAR = {"diffusion__schedule": {"name": "linear"}}


def test_a_run_has_a_line_and_what_is_no_record_has_one_below(folder, capsys):
    other = of(fd=12.3456, at=2, train__steps=20, **LINEAR)
    finished(folder, plain=of(3, 0.25, at=1), other=other, torn="{")
    head, *lines, _, count, left_out = table(capsys)
    assert head.split() == ["name", "seed", "fd", "bits/dim", "seconds", "state", "differs"]
    assert [line.split() for line in lines] == [
        ["plain", "3", "0.25", "-", "22", "scored", "-"],
        ["other", "0", "12.35", "-", "22", "scored", "schedule=linear", "train.steps=20"],
    ]
    assert "2" in count
    assert "torn" in left_out
    assert rows(capsys)["plain"]["scores"] == {"classifier.fd": 0.25}


def test_what_a_program_does_not_state_is_no_difference(folder, capsys):
    theirs = of(fd=0.5).model_copy(update={"program": "edm2", "params": {"name": "edm2", "lr": 0.01}})
    finished(folder, theirs=theirs)
    assert rows(capsys)["theirs"]["differs"] == {"lr": "0.01", "name": "edm2"}
    assert table(capsys)[-1] == "1 run"


@pytest.mark.parametrize("preset", ["digits", "article", "photos_small"])
def test_a_run_does_not_differ_from_its_own_params(preset, capsys):
    Path("params.yaml").write_text(presets.text(preset))
    flat = config.load().flat()
    RUN.parent.mkdir()
    RUN.write_text(bare(flat["seed"], params=flat).text())
    assert rows(capsys)["workspace"]["differs"] == {}


@pytest.mark.parametrize(("here", "there", "differs"), [
    ({}, {"launch__processes": 1, "train__checkpoint_every": 7, "data__source": "elsewhere"}, {}),
    ({"train__deterministic": False, "train__compile": True}, {}, {"train.deterministic": "true"}),
    ({}, {"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.05}}},
     {"diffusion.schedule.name": "linear", "diffusion.schedule.linear.beta_end": "0.05"}),
    ({"train__posthoc": {"lengths": [0.05, 0.2], "snapshots": 4}}, {},
     {"train.posthoc.lengths": "null", "train.posthoc.snapshots": "null"}),
])  # fmt: skip
def test_a_run_is_described_by_what_differs_from_params_yaml(folder, capsys, here, there, differs):
    Path("params.yaml").write_text(yaml.safe_dump(params(**here)))
    finished(folder, one=of(1, **there))
    assert rows(capsys)["one"]["differs"] == differs


@pytest.mark.parametrize("columns", [40, 100])
def test_the_table_fits_the_terminal(folder, columns, capsys, monkeypatch):
    many = {"train__steps": 1234, "train__batch_size": 9, "sample__steps": 3, "sample__count": 99, "diffusion__T": 51}
    finished(folder, **{"a-rather-long-name": of(fd=123456.789, **many, **LINEAR)})
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table(capsys)
    assert max(map(len, lines)) <= columns
    assert ("schedule=linear" in lines[1]) == (columns > 70)


def test_what_tells_runs_apart_comes_first_and_is_not_cut_off(folder, capsys, monkeypatch):
    shared = {"train__steps": 1234, "train__batch_size": 9, **LINEAR}
    finished(folder, **{f"run-{steps}": of(at=steps, sample__steps=steps, **shared) for steps in (6, 7, 9)})
    monkeypatch.setenv("COLUMNS", "80")
    assert [line.split()[6] for line in table(capsys)[1:4]] == ["sample.steps=6", "sample.steps=7", "sample.steps=9"]


def test_the_working_folder_is_the_last_and_stale_where_its_params_changed(folder, capsys):
    RUN.parent.mkdir()
    RUN.write_text(of(fd=0.5, at=1).text())
    other = bare(comparable={"samples": 9}).fingerprint
    finished(folder, newest=of(at=9), odd=of(at=2).model_copy(update={"fingerprint": other}))
    assert list(rows(capsys)) == ["odd", "newest", "workspace"]
    assert "code" in rows(capsys)["workspace"]["stale"]
    assert "2 fingerprints" in table(capsys)[-1]
    Path("params.yaml").write_text(yaml.safe_dump(params(train__steps=99)))
    assert rows(capsys)["workspace"]["stale"] == "train.steps was 12, and is 99 in params.yaml"
    assert rows(capsys)["workspace"]["differs"] == {"train.steps": "12"}


def test_nothing_ran_yet(capsys):
    assert len(table(capsys)) == 1
    assert rows(capsys) == {}


def test_a_thousand_runs_without_mlflow_or_torch(folder):
    one = of()
    finished(folder, **{f"run-{n}": one.model_copy(update={"scores": {"classifier.fd": n}}) for n in range(1000)})
    program = "import sys; from ddpm.cli import main; main(['runs'])"
    imports = [sys.executable, "-X", "importtime", "-c", program]
    result = subprocess.run(imports, capture_output=True, text=True, check=True)
    assert len(result.stdout.splitlines()) == 1003
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "pygit2" in imported
    assert not imported & {"torch", "mlflow", "dvc", "matplotlib.figure", "pandas"}
