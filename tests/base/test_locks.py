"""Locks that hold where NFS 4 maps them to the server's: by files only, and only if they are open for writing."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ddpm.base import locks
from ddpm.base.errors import UserError
from ddpm.base.locks import is_locked, lock, read_holder, try_lock


@pytest.fixture(autouse=True)
def nfs(folder, monkeypatch) -> None:
    """A disk of many machines: every open file belongs to another one."""
    flock = fcntl.flock

    def over_the_network(descriptor: int, operation: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return  # of this machine alone
        if operation & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", over_the_network)


def test_one_holds_a_lock_until_it_lets_go_and_whoever_waits_gets_it():
    def wait() -> bool:
        with lock(path, 60) as mine:
            return mine is not None

    path = Path("folder/lock")
    assert not is_locked(path)
    with ThreadPoolExecutor() as pool:
        with lock(path) as mine, lock(path) as yours, lock(path, patience=0.1) as theirs:
            assert (mine is None, yours, theirs, is_locked(path)) == (False, None, None, True)
            assert str(os.getpid()) in read_holder(path)
            waiting = pool.submit(wait)
        assert waiting.result()
    assert not is_locked(path)


HOLDER = "from ddpm.base.locks import try_lock; from pathlib import Path; import time\n"
HOLDER += "lock = try_lock(Path('lock')); print(flush=True); time.sleep(600)"


def test_a_killed_process_holds_nothing():
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"\n"
        assert is_locked(Path("lock"))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_locked(Path("lock"))


@pytest.mark.parametrize("handed", [False, True])
def test_a_child_holds_what_it_is_handed_by_name_and_nothing_else(handed):
    mine = try_lock(Path("lock"))
    passed = [mine.fileno()] if handed else []
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=passed) as child:
        mine.close()
        assert is_locked(Path("lock")) == handed
        child.stdin.close()


def test_a_forked_child_holds_nothing():
    mine, (end, ends), (begun, begin) = try_lock(Path("lock")), os.pipe(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(ends)
        os.write(begin, b"0")
        os.read(end, 1)  # until the parent closes its end
        os._exit(0)
    os.read(begun, 1)
    mine.close()
    free = not is_locked(Path("lock"))
    os.close(ends)
    os.waitpid(child, 0)
    assert free


def test_a_lock_whose_file_was_removed_locks_no_longer():
    """Or one holds the old file's lock and another the new one's."""
    path = Path("lock")
    with lock(path) as old, ThreadPoolExecutor() as pool:
        waiting = pool.submit(locks.try_lock, path)
        assert waiting.result() is None
        path.unlink()
        new = try_lock(path)
        assert (old is None, new is None) == (False, False)
        assert try_lock(path) is None
    with lock(Path("gone/lock")):
        pass
    Path("gone/lock").unlink()
    Path("gone").rmdir()
    assert try_lock(Path("gone/lock")) is None


def test_where_nothing_can_be_locked_one_line_names_the_file(monkeypatch):
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError, match=r"some/lock: .*No locks"), lock(Path("some/lock")):
        pass
    Path("link").symlink_to("target")
    with pytest.raises(UserError, match="link"):
        try_lock(Path("link"))
    assert not Path("target").exists()
