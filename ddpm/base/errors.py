"""Mistakes that a person can mend, and the one place that turns them into a line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EXIT_USER_ERROR = 2
STDOUT, STDERR = 1, 2
MEND = "check the disk's space and the folder's permissions, and run the same command again"
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


class UserError(Exception):
    """One line: the key or file, its value, what is allowed, how to mend it. Never shown with a traceback.

    It holds no password: it is printed, and written into reports and cards.
    """

    def __init__(self, line: str):
        super().__init__(masked(line))


def exit_code(main: Callable[[], int | None]) -> int:
    """Run ``main``; a UserError becomes one line on stderr and exit code 2, and so does storage that fails.

    Output that nobody reads any more (``| head``) ends it quietly, with the exit code of a program that SIGPIPE killed.
    """
    try:
        return _reported(main)
    except BrokenPipeError:
        unread = [descriptor for descriptor in (STDOUT, STDERR) if _is_unread(descriptor)]
        if not unread:
            raise
        with Path(os.devnull).open("w") as nowhere:
            for descriptor in unread:
                os.dup2(nowhere.fileno(), descriptor)  # the interpreter flushes once more when it exits
        return 128 + signal.SIGPIPE


def _reported(main: Callable[[], int | None]) -> int:
    try:
        try:
            return main() or 0
        finally:
            print(end="", flush=True)  # now, so that a failure is handled here
    except UserError as error:
        line = str(error)
    except KeyboardInterrupt:
        print("interrupted: run the same command again", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        if not (reason := storage_fault(error)):
            raise
        line = f"{error.filename or 'the disk'}: cannot be written or read ({reason}): {MEND}"
    print(f"error: {printable(masked(line))}", file=sys.stderr)
    return EXIT_USER_ERROR


def _is_unread(descriptor: int) -> bool:
    """Whether it is a pipe whose reader has gone."""
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are reported always
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def printable(text: str) -> str:
    """``text`` on one line, what would steer a terminal escaped: names of files and folders come from outside."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)


def masked(text: str) -> str:
    """``text`` with every URL's user and password starred and its query, where tokens travel, dropped.

    People write passwords with / ? # and @ in them: all before a URL's last @ is taken for user and password. Where it
    holds a ? or #, that @ may be a token's, and nothing of the address is shown.
    """
    # a longer word would be looked at from each of its letters
    return re.sub(r"(\w{1,20}://)(\S*)", lambda url: url[1] + _parted(url[2])[0], text)


def reason(error: BaseException, url: str) -> str:
    """What an exception says, in one line, less all of it where it repeats a piece of the password or query of ``url``,
    which it is about: libraries quote an address that they cannot read by the piece."""
    said = printable(masked(str(error).strip().partition("\n")[0]))
    pieces = re.split(r"\W+", _parted(url.partition("://")[2])[1])
    return "it says a part of the password" if any(piece and piece in said for piece in pieces) else said


def _parted(address: str) -> tuple[str, str]:
    """Of ``user:password@host/path?query`` what may be shown, and what is secret."""
    user, at, rest = ("", "", address) if address.startswith("/") else address.rpartition("@")
    place, _, query = re.sub(r"[?#]", "?", rest).partition("?")
    password = user.partition(":")[2] or user  # a token may stand for the user
    if re.search(r"[?#]", user):
        return "***", f"{password} {rest}"
    return ("***@" if at else "") + place, f"{password} {query}"


def storage_fault(error: BaseException) -> str | None:
    """Why storage refused, where that is what ``error`` says; libraries tell it in words of their own."""
    if isinstance(error, OSError) and error.errno in STORAGE:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.errno:
        return None
    text = str(error)
    if code := re.search(r"os error (\d+)", text):  # safetensors
        return os.strerror(int(code[1])) if int(code[1]) in STORAGE else None
    # numpy's tofile, and ffmpeg
    told = re.search(r"\d+ requested and \d+ written|No space left on device|File too large", text)
    return told and told[0]
