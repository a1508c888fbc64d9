import os
import shutil
from pathlib import Path

import pytest

from ddpm.base.errors import UserError
from ddpm.sources import archives
from tests.hostile.files import END, header

FILES = {"a/1.txt": b"one" * 5000, "a/b/2.txt": b"", "3.txt": bytes(range(256)) * 40}
FORMATS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tgz": "gztar"}


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pack(folder: Path, suffix: str, content: dict[str, bytes]) -> Path:
    path = Path(shutil.make_archive(str(folder / "archive"), FORMATS[suffix], write(folder / "content", content)))
    return path.rename(folder / f"archive{suffix}")


def contents(source: Path) -> dict[str, bytes]:
    with archives.open_members(source) as members:
        return {member.name.removeprefix("./"): member.stream.read() for member in members}


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
def test_reads_every_kind(suffix, tmp_path):
    assert contents(pack(tmp_path, suffix, FILES)) == FILES


@pytest.mark.parametrize("target", ["elsewhere", "elsewhere/4.txt", "/proc/self", "folder"])
def test_a_folder_is_read_by_a_link_and_has_none(tmp_path, target):
    folder = write(tmp_path / "folder", FILES)
    (tmp_path / "link").symlink_to(folder)
    assert contents(folder) == contents(tmp_path / "link") == FILES
    write(tmp_path / "elsewhere", {"4.txt": b"four"})
    (folder / "a" / "link").symlink_to(tmp_path / target)
    with pytest.raises(UserError, match="a/link: a link"):
        contents(folder)


@pytest.mark.parametrize("suffix", archives.SUFFIXES)
@pytest.mark.parametrize("share", [0.0, 0.7])
def test_a_truncated_archive_is_refused(suffix, share, tmp_path):
    path = pack(tmp_path, suffix, {str(i): os.urandom(3000) for i in range(10)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="truncated or broken archive"):
        contents(path)


@pytest.mark.parametrize("damage", ["cut between members", "a wrong checksum"])
def test_a_tar_without_its_end_or_with_a_damaged_header_is_refused(damage, tmp_path):
    content = bytearray(header("1", size=512) + bytes(512) + header("2") + END)
    content[1024 + 150] ^= 1  # of the second header's checksum
    path = tmp_path / "archive.tar"
    path.write_bytes(content[:1024] if damage.startswith("cut") else content)
    with pytest.raises(UserError, match="no end-of-archive mark"):
        contents(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    with pytest.raises(UserError, match="more than 2 files"):
        contents(pack(tmp_path, ".zip", FILES))
