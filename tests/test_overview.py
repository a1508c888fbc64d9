"""``ddpm runs``: every run in one table, in any state, by the thousand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from ddpm import cli
from ddpm.compare import interrupted, overview
from ddpm.params import presets
from tests.scored import BASELINE, Experiment, git, grid, params, record, reference

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing has run."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / ".dvc/site"))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.org")
    Path("params.yaml").write_text(yaml.safe_dump(params()))
    record(tmp_path, [])
    return tmp_path


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """The table's rows by name, in order."""
    with pytest.raises(SystemExit, match="0"):
        cli.main(["runs", "--json"])
    return {row["name"]: row for row in json.loads(capsys.readouterr().out)}


def table(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["runs"])
    return capsys.readouterr().out.splitlines()


def test_a_run_has_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, [
        Experiment("plain", 0.25, {"seed": 3}, when=1),
        Experiment("other", 12.3456, {"diffusion__schedule": {"name": "linear"}, "train__steps": 20}, when=2),
    ])  # fmt: skip
    assert table(capsys) == [
        "name   variant                         seed     fd  bits/dim  seconds  state",
        "plain  -                                  3   0.25         -        0  scored",
        "other  schedule=linear train.steps=20     0  12.35         -        0  scored",
        "",
        "2 runs: 2 scored",
    ]


def test_classes_and_the_likelihood_by_the_ode_have_columns_if_a_run_has_them() -> None:
    def run(name: str, **scores: float) -> overview.Listed:
        found = {key.replace("__", "."): value for key, value in scores.items()}
        return overview.Listed(name, "dvc", "scored", 0, {}, found, 1.0, "f", 0.0)

    both = run("both", classifier__fd=1.5, classifier__class_accuracy=0.75, bits_per_dim=2.5, bits_per_dim_ode=2.25)
    head, *lines = overview.table([run("plain", classifier__fd=2.5), both], 120).splitlines()
    assert [cell.strip() for cell in head.split("  ") if cell][3:] == [
        "fd",
        "accuracy",
        "bits/dim",
        "bits/dim ODE",
        "seconds",
        "state",
    ]
    assert [line.split()[3:7] for line in lines[:2]] == [["2.5", "-", "-", "-"], ["1.5", "0.75", "2.5", "2.25"]]


def test_of_what_leaves_results_alone_nothing_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"seed": 1, "launch__processes": 1, "train__checkpoint_every": 7, "data__source": "elsewhere",
            "train__learning_rate": 0.001, "diffusion__schedule": {"name": "cosine", "linear": {"beta_end": 0.05}},
            "train__epochs": None}  # fmt: skip
    record(folder, [
        Experiment("same", params=same),
        Experiment("shaped", params={"diffusion__schedule": {"name": "linear", "linear": {"beta_end": 0.05}}}),
    ])  # fmt: skip
    found = rows(capsys)
    assert found["same"]["variant"] == {}
    assert found["shaped"]["variant"] == {
        "diffusion.schedule.name": "linear",
        "diffusion.schedule.linear.beta_end": "0.05",
    }


@pytest.mark.parametrize("preset", presets.names())
def test_the_working_folder_does_not_differ_from_itself(
    preset: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Experiment("here").write(folder)
    Path("params.yaml").write_text(presets.text(preset))
    assert rows(capsys)["workspace"]["variant"] == {}


def test_a_default_and_a_section_that_is_off_show_where_the_working_folder_has_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(folder, [Experiment("plain"), Experiment("same", params={"train__compile": True})])
    averaged = {"train__posthoc": {"lengths": [0.05, 0.2], "snapshots": 4}, "train__compile": True}
    Path("params.yaml").write_text(yaml.safe_dump(params(**averaged)))
    found, off = rows(capsys), {"train.posthoc.lengths": "null", "train.posthoc.snapshots": "null"}
    assert found["same"]["variant"] == off
    assert found["plain"]["variant"] == {"train.compile": "false", **off}


def test_what_an_experiment_was_started_with_shows_when_the_working_folder_has_it_too(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`dvc exp run -S` leaves its values in params.yaml."""
    git("add", "params.yaml")
    git("commit", "--quiet", "--message", "as it was")
    linear = {"diffusion__schedule": {"name": "linear"}}
    record(folder, [Experiment("one", params=linear, base=git("rev-parse", "HEAD"))])
    Experiment("", params=linear).write(folder)
    found = rows(capsys)
    assert found["one"]["variant"] == {"diffusion.schedule.name": "linear"}
    assert found["workspace"]["variant"] == {}


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 300])
def test_the_table_fits_the_terminal(
    folder: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = {"diffusion__schedule": {"name": "linear"}, "train__steps": 1234, "train__batch_size": 9, "model__unet": {},
            "sample__steps": 3, "sample__count": 99, "diffusion__T": 51, "data__image_size": 16}  # fmt: skip
    record(folder, [Experiment("a-name-that-someone-made-much-too-long-for-a-table", 123456.789, many)])
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = table(capsys)
    assert max(map(len, lines)) <= min(max(columns, 80), 120)
    assert "schedule=linear" in lines[1]
    assert "…" in lines[1]


def test_what_tells_runs_apart_comes_first_and_is_not_cut_off(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"diffusion__schedule": {"name": "linear"}, "train__steps": 1234, "train__batch_size": 9}
    own = [{"sample__steps": steps} for steps in (6, 7, 9)]
    record(folder, [Experiment(f"run-{number}", params={**shared, **each}) for number, each in enumerate(own)])
    monkeypatch.setenv("COLUMNS", "80")
    assert [line.split()[1] for line in table(capsys)[1:4]] == ["sample.steps=6", "sample.steps=7", "sample.steps=9"]


def test_each_state_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stale = Experiment("stale").contents() | {"params.yaml": yaml.safe_dump(params(train__learning_rate=0.1))}
    none: dict[str, str | None] = {"metrics/evaluate.json": None}
    record(folder, [
        Experiment("scored", when=1),
        Experiment("stale", files=dict(stale), when=2),
        Experiment("unscored", files=none, when=3),
        Experiment("broken", files={"params.yaml": "{"}, when=4),
        Experiment("torn", files={"metrics/evaluate.json": "[]", "dvc.lock": None}, when=5),
    ])  # fmt: skip
    found = rows(capsys)
    assert [(name, row["state"]) for name, row in found.items()] == [
        ("scored", "scored"),
        ("stale", "stale"),
        ("unscored", "unscored"),
        ("broken", "unscored"),
        ("torn", "stale"),
    ]
    assert "stage evaluate ran with another train" in found["stale"]["why"]
    assert found["stale"]["scores"] == {}
    assert found["broken"]["why"].startswith("params.yaml: not valid YAML")
    assert found["torn"]["why"] == "no dvc.lock"
    assert table(capsys)[-1] == "5 runs: 1 scored, 2 stale, 2 unscored"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{one}: &{one} [{','.join([f'*{other}'] * 9)}]\n" for other, one in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("files", "state", "why"),
    [
        ({"params.yaml": BOMB}, "unscored", "params.yaml: stands for more than"),
        ({"params.yaml": "#" * 1_000_000}, "unscored", "params.yaml: larger than"),
        (
            {"dvc.lock": f"{BOMB}stages: {{evaluate: {{params: {{params.yaml: {{seed: *j}}}}}}}}"},
            "stale",
            "dvc.lock can't",
        ),
        ({"dvc.lock": "#" * 1_000_000}, "stale", "dvc.lock can't be read"),
    ],
)
def test_an_experiment_too_large_to_read_is_said_to_be(
    folder: Path, capsys: pytest.CaptureFixture[str], files: dict[str, str | None], state: str, why: str
) -> None:
    record(folder, [Experiment("fine"), Experiment("bomb", files=files)])
    found = rows(capsys)
    assert found["fine"]["state"] == "scored"
    assert found["bomb"]["state"] == state
    assert found["bomb"]["why"].startswith(why)


def test_a_value_that_yaml_spells_otherwise_is_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = yaml.safe_dump(params(train__compile=True, train__learning_rate=0.001))
    odd = text.replace("compile: true", "compile: True").replace("0.001", "1e-3").replace("seed: 0", "seed: 0 # zero")
    assert odd.count("True") == odd.count("1e-3") == 1
    record(folder, [Experiment("odd", params={"train__compile": True}, files={"params.yaml": odd})])
    found = rows(capsys)["odd"]
    assert (found["state"], found["seed"]) == ("scored", 0)


def test_the_working_folder_is_the_last(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, [Experiment("newest", when=2_000_000_000)])
    assert list(rows(capsys)) == ["newest"]
    Experiment("here", 0.5).write(folder)
    found = rows(capsys)
    assert list(found) == ["newest", "workspace"]
    assert found["workspace"]["scores"]["classifier.fd"] == 0.5


def test_scores_of_two_kinds_are_marked_as_such(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = json.dumps({"hash": "0" * 64})
    record(folder, [Experiment("a"), Experiment("b", files={"metrics/fingerprint.json": other})])
    assert rows(capsys)["b"]["state"] == "stale"  # according to its dvc.lock the stage wrote another fingerprint
    record(folder, [Experiment("c", fingerprint="0" * 64)])
    assert table(capsys)[-1] == "3 runs: 2 scored, 1 stale; 2 fingerprints: compare only scores of the same one"


def test_nothing_ran_yet(capsys: pytest.CaptureFixture[str]) -> None:
    assert table(capsys) == ["no runs yet: `dvc repro` makes one"]
    assert rows(capsys) == {}


# --- DVC's queue


def stash(folder: Path, state: str, name: str, **changes: Any) -> str:
    """Put a commit into one of the stashes of DVC's queue, as DVC does; return its revision."""
    record(folder, [Experiment(name, params=changes)])
    revision = git("rev-parse", reference(name), cwd=folder)
    git("update-ref", "-d", reference(name), cwd=folder)
    message = f"commit: dvc-exp:{BASELINE}:{BASELINE}:{name}"
    git("update-ref", "--create-reflog", "-m", message, f"refs/exps/celery/{state}", revision, cwd=folder)
    return revision


def test_what_waits_and_what_failed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stash(folder, "stash", "first", seed=5)
    stash(folder, "stash", "second", seed=6)
    stash(folder, "failed", "bad", train__steps=99)
    stash(folder, "failed", "tried-again")
    record(folder, [Experiment("tried-again")])
    found = rows(capsys)
    assert {name: row["state"] for name, row in found.items()} == {
        "tried-again": "scored",
        "first": "queued",
        "second": "queued",
        "bad": "failed",
    }
    assert [found[name]["seed"] for name in ("first", "second")] == [5, 6]
    assert found["bad"]["variant"] == {"train.steps": "99"}
    assert found["bad"]["scores"] == {}  # not those of the commit that it started from


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process.pid
    process.kill()
    process.wait()


def test_what_runs(folder: Path, sleeper: int, capsys: pytest.CaptureFixture[str]) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for name, pid, seed in (("alive", sleeper, 8), ("killed", dead.pid, 9)):
        revision = stash(folder, "stash", name, seed=seed)
        git("update-ref", "-d", "refs/exps/celery/stash", cwd=folder)
        note = interrupted.RUNS / "run" / revision / f"{revision}.json"
        note.parent.mkdir(parents=True)
        note.write_text(json.dumps({"pid": pid}))
        note.with_suffix(".run").write_text(json.dumps({"name": name, "status": 2}))
    found = rows(capsys)
    assert {name: row["state"] for name, row in found.items()} == {"alive": "running"}
    assert found["alive"]["seed"] == 8


def test_the_queue_of_dvc_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.yaml").write_text("stages: {a: {cmd: 'true', params: [seed]}}")
    subprocess.run(["dvc", "init", "--quiet"], check=True)
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    command = ["dvc", "exp", "run", "--queue", "--name", "grid", "--set-param", "seed=4,5"]
    subprocess.run(command, check=True, capture_output=True)
    found = rows(capsys)
    assert {name: (row["state"], row["seed"]) for name, row in found.items()} == {
        "grid-1": ("queued", 4),
        "grid-2": ("queued", 5),
    }


# --- a thousand


def test_a_thousand_runs_without_mlflow_or_torch(folder: Path) -> None:
    made = grid({"cosine": 1.0, "linear": 2.0}, range(5))
    record(folder, made)
    revisions = git("for-each-ref", "--format=%(objectname)", "refs/exps").split()
    copies = [f"create {reference(f'copy-{number}')} {revisions[number % 10]}" for number in range(990)]
    git("update-ref", "--stdin", given="\n".join([*copies, ""]).encode())
    program = "import sys; from ddpm.cli import main; main(['runs'])"
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "1000 runs: 1000 scored"
    assert len(result.stdout.splitlines()) == 1003
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "pygit2" in imported
    assert not imported & {"torch", "mlflow", "dvc", "matplotlib", "pandas"}
