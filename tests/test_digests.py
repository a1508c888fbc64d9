"""What is remembered of large files between stages."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddpm.base import files
from ddpm.params import digests

SHARD, SMALL = Path("data/train/images-00000.npy"), Path("data/train/labels.npy")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a file that is just large enough, and a small one."""
    monkeypatch.chdir(tmp_path)
    SHARD.parent.mkdir(parents=True)
    SHARD.touch()
    os.truncate(SHARD, digests.LARGE)
    SMALL.write_text("labels")


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file counts as just written."""
    monkeypatch.setattr(digests, "FRESH", -60)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read, in order."""
    read: list[Path] = []
    true = files.sha256

    def counted(path: Path, known: dict[str, str] | None = None) -> str:
        if path.is_file():
            read.append(path)
        return true(path, known or {})

    monkeypatch.setattr(files, "sha256", counted)
    return read


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("path", [Path("data"), SHARD.parent, SHARD])
def test_an_unchanged_large_file_is_read_once(reads: list[Path], path: Path) -> None:
    expected = {str(path): files.sha256(path)}
    reads.clear()
    assert digests.read([path]) == expected
    assert reads.count(SHARD) == 1
    reads.clear()
    assert digests.read([path]) == expected
    assert reads == ([] if path == SHARD else [SMALL])


@pytest.mark.usefixtures("settled")
def test_a_change_that_keeps_size_and_modification_time_is_read(reads: list[Path]) -> None:
    before, at = digests.read([SHARD.parent]), SHARD.stat()
    with SHARD.open("r+b") as file:
        file.write(b"x")
    os.utime(SHARD, ns=(at.st_atime_ns, at.st_mtime_ns))
    now = SHARD.stat()
    assert (now.st_ino, now.st_size, now.st_mtime_ns) == (at.st_ino, at.st_size, at.st_mtime_ns)
    reads.clear()
    assert digests.read([SHARD.parent]) != before
    assert SHARD in reads


def test_a_file_that_was_just_written_is_not_remembered(reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it written twice within a tick of the disk's clock, its stamp would be the same."""
    digests.read([SHARD])
    digests.read([SHARD])
    assert reads == [SHARD, SHARD]
    newest = max(SHARD.stat().st_mtime, SHARD.stat().st_ctime)
    monkeypatch.setattr(digests.time, "time", lambda: newest + digests.FRESH + 0.1)
    for _ in range(3):
        digests.read([SHARD])
    assert reads == [SHARD, SHARD, SHARD]


@pytest.mark.usefixtures("settled")
def test_a_file_that_changes_while_it_is_read_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    true = files.sha256

    def changed(path: Path) -> str:
        digest = true(path)
        with path.open("r+b") as file:
            file.write(b"x")
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256", changed)
        digests.read([SHARD])
    assert digests.read([SHARD]) == {str(SHARD): files.sha256(SHARD)}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '{"a": "b"}', "\0", "[" * 100_000])
def test_a_memory_that_cannot_be_read_is_written_again(reads: list[Path], content: str) -> None:
    expected = digests.read([SHARD])
    good = digests.MEMORY.read_text()
    stamp = files.stamp(SHARD)
    digests.MEMORY.write_text(content.replace('"a"', f'"{stamp}"'))
    reads.clear()
    assert digests.read([SHARD]) == expected
    assert reads == [SHARD]
    assert digests.MEMORY.read_text() == good


@pytest.mark.usefixtures("settled")
def test_a_memory_that_cannot_be_written_is_done_without() -> None:
    digests.MEMORY.parent.write_text("a file where the folder should be")
    assert digests.read([SHARD]) == {str(SHARD): files.sha256(SHARD)}


@pytest.mark.usefixtures("settled")
def test_the_memory_does_not_grow_without_limit(monkeypatch: pytest.MonkeyPatch, reads: list[Path]) -> None:
    monkeypatch.setattr(digests, "KEPT", 3)
    for number in range(6):
        os.utime(SHARD, (number, number))
        digests.read([SHARD])
    assert len(json.loads(digests.MEMORY.read_text())) == 3
    reads.clear()
    digests.read([SHARD])
    assert reads == []


@pytest.mark.usefixtures("settled")
def test_stages_that_start_together_leave_a_whole_memory(reads: list[Path]) -> None:
    shards = [SHARD.with_name(f"{number}.npy") for number in range(4)]
    for shard in shards:
        shard.touch()
        os.truncate(shard, digests.LARGE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda shard: digests.read([shard]), shards))
    digests.read(shards)
    reads.clear()
    digests.read(shards)
    assert reads == []
