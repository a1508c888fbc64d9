"""Files of rows: what lines have in common, and writers that are many, are killed, or have no space left."""

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from ddpm.base import files
from ddpm.base.errors import UserError
from ddpm.runs import rows
from ddpm.runs.record import NumberTable, Record
from ddpm.runs.rows import Rows
from tests.scored import bare


def run(seed: int, **more: object) -> Record:
    """Of one arm, whatever the seed and the learning rate."""
    params = {"seed": seed, "sample.seeds": [seed], "train.learning_rate": 0.1 / (seed + 1), "train.steps": 10}
    scores = {"real.classifier.fd": 0.2, "classifier.fd": float(seed)}
    code = {"ddpm/base": "0" * 12}
    return bare(seed, **{"name": f"tiny-a-{seed}", "params": params, "scores": scores, "code": code} | more)


def write(path: Path, *runs: Record) -> None:
    for each in runs:
        rows.append(path, each.model_dump(mode="json"))


def test_rows_of_an_arm_share_a_header_and_are_the_records_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    table = NumberTable(columns={"images": (1.0, 2.0), "classifier.fd": (0.2, None)})
    typed = [{"diffusion.loss.p2.k": 1.0}, {"diffusion.loss.p2.k": 1}, {"train.snapshots": []}]
    runs = [run(0), run(1, curve=table), run(2, scores={}, diverged="too high", curve=None)]
    runs += [run(at, params={"seed": at} | each) for at, each in enumerate(typed, 3)]
    write(path, *runs)
    found = Rows(path)
    assert found.records == {each.name: each for each in runs}
    assert [type(found.records[f"tiny-a-{at}"].params["diffusion.loss.p2.k"]) for at in (3, 4)] == [float, int]
    assert rows.has(path, "tiny-a-1")
    assert not rows.has(path, "tiny-a-9")


def test_of_a_run_that_two_clones_made_the_first_counts_and_one_that_contradicts_it_removes_it(tmp_path):
    path, first = tmp_path / "rows.jsonl", run(0)
    later = first.model_copy(update={"finished": first.finished + timedelta(hours=1)})
    for order in ([first, later], [later, first]):
        path.unlink(missing_ok=True)
        write(path, *order)
        assert Rows(path).records == {first.name: first}
    write(path, later.model_copy(update={"scores": {"classifier.fd": 9.0}}))
    assert Rows(path).records == {}
    assert "contradicts" in Rows(path).refused[first.name]


def test_a_header_that_was_changed_or_is_missing_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, run(0))
    header, row = path.read_text().splitlines()
    for text in (f"{header.replace('10', '99')}\n{row}\n", f"{row}\n"):
        path.write_text(text)
        assert Rows(path).records == {}
        assert "header" in Rows(path).refused["tiny-a-0"]


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "[1]", '{"header": []}', "[" * 10**5, '{"header": 1, "a": NaN}'])
def test_what_is_no_row_is_named_by_its_line(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{line}\n")
    one = run(0)  # its end is a time
    write(path, one)
    assert [reason.startswith(f"{path}:1: ") for reason in Rows(path).refused.values()] == [True]
    assert Rows(path).records == {"tiny-a-0": one}


@pytest.mark.parametrize("change", [{"params": []}, {"scores": {"a": "b"}}, {"plan": "x"}])
def test_a_row_that_is_no_record_is_named_whether_or_not_it_is_the_first_of_its_header(tmp_path, change):
    path = tmp_path / "rows.jsonl"
    write(path, run(0), run(1))
    header, *lines = path.read_text().splitlines()
    odd = [json.dumps(json.loads(line) | change) for line in lines]
    path.write_text("".join(f"{line}\n" for line in (header, odd[0], lines[1])))
    assert (Rows(path).records.keys(), Rows(path).refused.keys()) == ({"tiny-a-1"}, {"tiny-a-0"})
    path.write_text("".join(f"{line}\n" for line in (header, lines[0], odd[1])))
    assert (Rows(path).records.keys(), Rows(path).refused.keys()) == ({"tiny-a-0"}, {"tiny-a-1"})


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/dev/zero"), Path.mkdir, os.mkfifo])
def test_what_is_not_a_file_is_refused(tmp_path, make):
    make(path := tmp_path / "rows.jsonl")
    with pytest.raises(UserError, match=str(path)):
        Rows(path)
    with pytest.raises(UserError, match=str(path)):
        write(path, run(0))


def test_writers_append_whole_lines_though_one_left_half(tmp_path):
    def append(number: int) -> None:
        files.append_lines(path, [json.dumps({"common": "x" * 4000}), json.dumps({"number": number})])

    path = tmp_path / "rows.jsonl"
    path.write_text('{"numb')
    with ThreadPoolExecutor(4) as writers:  # each opens the file, as a process does
        list(writers.map(append, range(80)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(line["number"] for line in lines if "number" in line) == [*range(80)]
    assert len(lines) == 81
    path.write_text(path.read_text().removesuffix("\n"))  # as some editors leave it
    files.append_lines(path, ["{}"])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [*lines, {}]


def test_a_file_that_git_replaces_meanwhile_gets_the_line(tmp_path, monkeypatch):
    path, real = tmp_path / "rows.jsonl", fcntl.flock
    path.write_text("[0]\n")

    def flock(*lock: int) -> None:
        if path.read_text() == "[0]\n":
            (tmp_path / "new").write_text("[1]\n")
            (tmp_path / "new").rename(path)
        real(*lock)

    monkeypatch.setattr(fcntl, "flock", flock)
    files.append_lines(path, ["[2]"])
    assert path.read_text() == "[1]\n[2]\n"


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    write(path, run(0))
    before = path.read_bytes()

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(UserError, match="No space left"):
        write(path, run(1))
    assert path.read_bytes() == before
    with pytest.raises(UserError, match="bytes"):
        write(path, run(2, environment={"note": "x" * 10**5}))
