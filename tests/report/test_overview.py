"""``ddpm runs``: every run in one table, in any state."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from ddpm.base.paths import RUN
from ddpm.runs import library
from ddpm.runs.record import Costs, Record
from tests import command
from tests.scored import bare, params, record, working, write


@pytest.fixture(autouse=True)
def _project(folder, monkeypatch) -> None:
    """A project in which nothing has run, and a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
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


def test_a_run_has_a_line_and_what_is_no_record_has_one_below(folder, capsys):
    other = of(fd=12.3456, at=2, train__steps=20, diffusion__schedule={"name": "linear"})
    other.params["name"] = "theirs"  # of a program, which has no section
    finished(folder, plain=of(3, 0.25, at=1), other=other, torn="{")
    write(of(1, train__steps=30))
    assert command.run("runs") == 0
    head, *lines, _, count, left_out = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "seed", "classifier.fd", "bits_per_dim", "seconds", "state", "differs"]
    assert [line.split() for line in lines] == [
        ["plain", "3", "0.25", "-", "22", "scored", "-"],
        ["other", "0", "12.35", "-", "22", "scored", "schedule=linear", "name=theirs", "train.steps=20"],
        ["workspace", "1", "1", "-", "22", "stale", "train.steps=30"],
    ]
    assert "3" in count
    assert "torn" in left_out
    assert command.run("runs", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["scores"] == {"classifier.fd": 0.25}
