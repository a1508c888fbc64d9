"""Files that are complete or absent, and their digests."""

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ddpm.base import files
from ddpm.base.errors import UserError


def test_a_file_appears_whole_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "picture.png"
    with files.atomic_path(path) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


def test_a_folder_is_on_the_disk_before_it_has_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    synced: list[tuple[Path, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").readlink(), (tmp_path / "disk/part").exists()))

    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")  # stays a link
    monkeypatch.setattr(os, "fsync", fsync)
    with files.atomic_path(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("whole")
    assert synced == [(temporary / "part", False), (temporary, False), (tmp_path, True)]
    assert (tmp_path / "out").is_symlink()


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with (
        pytest.raises(UnicodeEncodeError),
        files.atomic_path(path) as temporary,
        temporary.open("w", 1, "ascii") as out,
    ):
        out.writelines(["half of the new file\n", "∞"])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_others_may_read_what_the_umask_lets_them_whatever_the_writer(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with files.atomic_path(tmp_path / "model.safetensors") as temporary:
            save_file({"weights": torch.zeros(3)}, temporary)
        with files.atomic_path(tmp_path / "reference") as temporary:
            temporary.mkdir()
            save_file({"weights": torch.zeros(3)}, temporary / "features.safetensors")
    finally:
        os.umask(before)
    for name in ("model.safetensors", "reference/features.safetensors"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode


@pytest.mark.parametrize("name", ["file/below", "folder"])
def test_where_nothing_can_be_written_one_line_says_so(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=name), files.atomic_path(tmp_path / name) as temporary:
        temporary.write_text("content")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", None])
def test_json_that_is_broken_or_missing_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "scores.json").write_bytes(content)
    line = r"scores\.json: .*" + ("no such file" if content is None else "Invalid JSON") + ".*; `dvc repro` makes it"
    with pytest.raises(UserError, match=line):
        files.read_json(tmp_path / "scores.json")


def test_a_folders_digest_is_of_names_and_contents_and_of_nothing_else(tmp_path):
    def folder(name: str, content: dict[str, str]) -> Path:
        for file, text in content.items():
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
        return tmp_path / name

    whole = files.sha256(folder("a", {"x": "1", "sub/y": "2"}))
    compiled = {"sub/__pycache__/y.pyc": "compiled", "sub/__pycache__/y.pyc.140234": "while Python writes it"}
    assert files.sha256(folder("b", {"sub/y": "2", "x": "1"} | compiled)) == whole
    assert files.md5(tmp_path / "a") == files.md5(tmp_path / "b")
    assert files.sha256(folder("c", {"x": "1", "sub/z": "2"})) != whole
    assert files.sha256(folder("d", {"x": "1", "sub/y": "3"})) != whole


def test_a_digest_depends_on_values_and_not_on_the_order_of_keys():
    value = {"a": [1, None], "b": {"d": "é", "c": True}}
    assert files.digest({"b": {"c": True, "d": "é"}, "a": (1, None)}) == files.digest(value)
    for other in ({"a": [None, 1]}, {"a": [1.0, None]}, {"b": {"d": "e", "c": True}}, {"e": 0}):
        assert files.digest(value | other) != files.digest(value)
