"""A damaged experiment is left out of what a study says, with a note; the others are judged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pygit2
import pytest
import yaml

from ddpm import cli
from ddpm.study import plan, results
from tests.scored import Experiment, md5, params
from tests.study_project import commit, git, study

PLAN = Path("studies/tiny.yaml")
TEXT = """\
question: Which schedule?
variants:
  cosine: {diffusion.schedule.name: cosine}
  linear: {diffusion.schedule.name: linear}
primary: classifier.fd
looks: [8]
"""
NAME = "tiny-linear-3"
LEFT_OUT = f"left out {NAME}: "


@pytest.fixture(autouse=True)
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study with all of its results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDPM_TRACKING", "off")
    git("init", "--quiet", "--template=")
    PLAN.parent.mkdir()
    PLAN.write_text(TEXT)
    Path("params.yaml").write_text(yaml.safe_dump(params()))
    commit("a study")
    planned, head = plan.load(PLAN), git("rev-parse", "HEAD")
    for each in planned.lines():
        score = 1 + 0.01 * each.seed + 0.5 * (each.variant == "linear") * (1 + each.seed % 3)
        made = Experiment("", score, {"diffusion__schedule": {"name": each.variant}, "seed": each.seed}).contents()
        results.publish(each, planned, head, {path: text.encode() for path, text in made.items()}, 5.0)


def damage(files: dict[str, bytes] | None = None, message: bytes | None = None, orphan: bool = False) -> None:
    """Replace the experiment by one with another message, or without a parent, or with other files."""
    repository = pygit2.Repository(".")
    reference = results.reference(git("rev-parse", "HEAD"), NAME)
    old = repository.references[reference].peel(pygit2.Commit)
    index = pygit2.Index()
    index.read_tree(old.tree)
    for path, content in (files or {}).items():
        index.add(pygit2.IndexEntry(path, repository.create_blob(content), pygit2.enums.FileMode.BLOB))
    parent = b"" if orphan else f"parent {old.parent_ids[0]}\n".encode()
    who = b"author t <t@example.org> 1 +0000\ncommitter t <t@example.org> 1 +0000\n\n"
    head = f"tree {index.write_tree(repository)}\n".encode() + parent + who
    new = head + (old.raw_message if message is None else message)
    repository.references.create(reference, repository.odb.write(pygit2.enums.ObjectType.COMMIT, new), force=True)


def message(pattern: str, text: str) -> bytes:
    repository = pygit2.Repository(".")
    old = repository.references[results.reference(git("rev-parse", "HEAD"), NAME)].peel(pygit2.Commit)
    return re.sub(pattern, text, old.message).encode()


def of_score(text: str) -> dict[str, bytes]:
    """The files of a run whose score is that text, which its dvc.lock records."""
    made = Experiment("", 0.25, {"diffusion__schedule": {"name": "linear"}, "seed": 3}).contents()
    scores = made["metrics/evaluate.json"].replace("0.25", text, 1)
    lock = made["dvc.lock"].replace(md5(made["metrics/evaluate.json"]), md5(scores))
    return {"metrics/evaluate.json": scores.encode(), "dvc.lock": lock.encode()}


def says(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints as JSON; it succeeds."""
    with pytest.raises(SystemExit, match="0"):
        cli.main([*arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_all_of_an_undamaged_study_are_judged(capsys: pytest.CaptureFixture[str]) -> None:
    found = says(capsys, "study", "verdict", str(PLAN))
    assert [len(each["seeds"]) for each in found["findings"]] == [8, 8]
    assert not any("left out" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("Plan: .*\n", ""),
        ("Seconds: .*\n", ""),
        ("Seconds: .*", "Seconds: abc"),
        ("Seconds: .*", "Seconds: 1e999"),
        ("Seconds: .*", "Seconds: nan"),
        ("Seconds: .*", "Seconds: -5"),
    ],
)
def test_one_whose_message_is_damaged_is_left_out(pattern: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage(message=message(pattern, text))
    check_left_out(capsys)


def test_one_without_a_parent_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    damage(orphan=True)
    check_left_out(capsys)


def check_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = says(capsys, "study", "verdict", str(PLAN))
    assert {3} == set(range(8)) - set(found["findings"][0]["seeds"])
    (note,) = (note for note in found["notes"] if note.startswith(LEFT_OUT))
    assert f"dvc exp remove {NAME}" in note
    state = {each["name"]: each["state"] for each in says(capsys, "study", "status", str(PLAN))["experiments"]}
    assert state[NAME] == "failed"
    assert len(says(capsys, "runs")) == 16
    assert study("run", str(PLAN), "--line", "8") == 2  # it is not taken for a finished one
    assert "dvc exp remove" in capsys.readouterr().err


@pytest.mark.parametrize("score", ["NaN", "1e999", "-Infinity", "1e308", '"low"', "[" * 10_000])
def test_one_with_a_score_that_is_no_number_is_left_out(score: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage(of_score(score))
    found = says(capsys, "study", "verdict", str(PLAN))
    assert {3} == set(range(8)) - set(found["findings"][0]["seeds"])
    assert any(note.startswith(LEFT_OUT) for note in found["notes"])
    row = next(row for row in says(capsys, "runs") if row["name"] == NAME)
    assert (row["state"], row["scores"]) == ("unscored", {})
    assert "metrics/" in row["why"] or "read" in row["why"]


def test_a_message_in_another_encoding_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    damage(message=b"\xff\xfe\n\n" + message("^.*\n\n", ""))
    found = says(capsys, "study", "verdict", str(PLAN))
    assert not any("left out" in note for note in found["notes"])
