import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.sources import archives

FILES = {"a/1.txt": b"one" * 5000, "a/b/2.txt": b"", "3.txt": bytes(range(256)) * 40}
TARS = {".tar": "w:", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}


def make(path: Path, content: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return path
    mode = next(mode for suffix, mode in TARS.items() if path.name.endswith(suffix))
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def contents(source: Path) -> dict[str, bytes]:
    with archives.reading(source) as members:
        return {member.name: member.stream.read() for member in members}


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_reads_every_kind(suffix, tmp_path):
    assert contents(make(tmp_path / f"archive{suffix}", FILES)) == FILES


def test_reads_a_folder_through_links_and_round_loops(tmp_path):
    folder = tmp_path / "folder"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "4.txt").write_bytes(b"four")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "a" / "loop").symlink_to(folder)
    (folder / "dangling").symlink_to(tmp_path / "nothing")
    assert contents(folder) == FILES | {"link/4.txt": b"four"}


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:/evil.png", "..\\evil.png"])
def test_names_that_lead_outside_are_refused(suffix, name, tmp_path):
    with pytest.raises(UserError, match=r"evil\.png' leads outside"):
        contents(make(tmp_path / f"archive{suffix}", {"good.png": b"", name: b"evil"}))


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.85])
def test_a_truncated_archive_is_refused(suffix, share, tmp_path):
    path = make(tmp_path / f"archive{suffix}", {str(i): os.urandom(3000) for i in range(10)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="truncated or broken archive"):
        contents(path)


def test_a_tar_cut_between_members_is_refused(tmp_path):
    path = make(tmp_path / "archive.tar", {"1": b"a" * 512, "2": b"b" * 512})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(UserError, match="no end-of-archive mark"):
        contents(path)


def test_a_tar_with_a_damaged_header_is_refused(tmp_path):
    path = make(tmp_path / "archive.tar", {"1": b"a" * 512, "2": b"b" * 512})
    content = bytearray(path.read_bytes())
    content[1024 + 150] ^= 1  # the second header's checksum
    path.write_bytes(content)
    with pytest.raises(UserError, match="no end-of-archive mark"):
        contents(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(UserError, match="more than 2 files"):
        contents(make(tmp_path / "archive.zip", FILES))
