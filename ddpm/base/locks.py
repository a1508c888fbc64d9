"""One kind of lock, held between threads, processes and machines until it is closed or its process has died."""

import fcntl
import os
import socket
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from ddpm.base.errors import UserError, printable

# Open files hold the locks. A child gets one only by name (subprocess's ``pass_fds``), and then holds it, too.
_held = weakref.WeakSet[FileIO]()


def _close_all() -> None:
    for file in list(_held):
        file.close()


os.register_at_fork(after_in_child=_close_all)


def try_lock(path: Path) -> FileIO | None:
    """Lock a file, which is created if needed. Closing what is returned releases the lock; None if somebody else holds
    it, or its folder was removed.

    The clients of an NFS 4 server exclude each other only by files, and only by files that are open for writing.
    Raises UserError where files cannot be locked.
    """
    try:
        while True:
            file = FileIO(path, "r+", opener=_open)
            _held.add(file)
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                if isinstance(error, BlockingIOError):
                    return None
                raise
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
            file.close()  # somebody has removed it meanwhile: whoever comes next would lock another file
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"{path}: cannot be locked ({error.strerror})"
        raise UserError(f"{why}: use a disk with file locks, and a file that you may write to") from error


def read_holder(path: Path) -> str:
    """Who locked the file last, for a message: "process 12 on host"."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return printable(text[:200]) or "an unknown process"


def _open(path: str, flags: int) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


@contextmanager
def lock(path: Path, patience: float = 0.0) -> Iterator[FileIO | None]:
    """Hold a file's lock, creating its folders; None if somebody else holds it for ``patience`` seconds.

    Raises UserError where files cannot be locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + patience
    while (file := try_lock(path)) is None and time.monotonic() < until:
        time.sleep(0.05)
    if file is None:
        yield None
        return
    with file:
        with suppress(OSError):  # on a full disk the lock holds, and nobody knows whose it is
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield file


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of the file."""
    if not path.exists():
        return False
    with lock(path) as file:
        return file is None
