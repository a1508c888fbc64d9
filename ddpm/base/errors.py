"""Mistakes that a person can fix, and the one place that turns them into a line and an exit code."""

import errno
import io
import json
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EXIT_USER_ERROR = 2
STDOUT, STDERR = 1, 2
FIX = "check the disk's space and the folder's permissions, and run the same command again"
STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}
LONGEST = 2000  # characters; longer lines lose their middle


class UserError(Exception):
    """One line: the key or file, its value, what is allowed, how to fix it. Never shown with a traceback.

    Passwords are removed, because the line is printed and written into reports and cards. Of a line that quotes too
    much, the middle is left out: the key stands at its beginning, and what to do at its end.
    """

    def __init__(self, line: str):
        line = mask_secrets(line)
        cut = f"{line[: LONGEST * 3 // 4]} [...] {line[-LONGEST // 5 :]}"
        super().__init__(line if len(line) <= LONGEST else cut)


class Diverged(UserError):
    """The loss or the gradient of a training is not finite. Where values are tried, that is a result."""


@contextmanager
def blame(source: object) -> Iterator[None]:
    """Begin the line of any UserError in this block with its source, such as a file and a key."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def plural(count: int, one: str, many: str = "") -> str:
    """The count with its noun, ``many`` or ``one`` with an s: "1 run", "1,437 classes"."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def print_error(kind: str, line: str) -> None:
    """Print what went wrong on stderr."""
    print(f"error: {line}", file=sys.stderr)


def print_described(kind: str, line: str) -> None:
    """Print it for a program, too, on stdout."""
    print_error(kind, line)
    print(json.dumps(describe(kind, line), indent=2), flush=True)


def exit_code(main: Callable[[], int | None], say: Callable[[str, str], None] = print_error) -> int:
    """Run ``main``; a UserError, a library that is not installed, a failure of the storage or a full GPU becomes its
    kind and one line, for ``say``, and exit code 2.

    If nobody reads the output any more (``| head``), it ends quietly, with the exit code of a SIGPIPE.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # in the locale C, ± and é
    try:
        return _report(main, say)
    except BrokenPipeError:
        if not (_is_unread(STDOUT) or _is_unread(STDERR)):
            raise
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), STDOUT)  # the interpreter flushes again when it exits
            os.dup2(nowhere.fileno(), STDERR)
        return 128 + signal.SIGPIPE


def describe(kind: str, line: str) -> dict[str, str | None]:
    """The parts of an error's line, for a program. key: the last of the words that end in a colon at its beginning.
    allowed: what may stand there. Both are of the first of several mistakes, and None if the line does not say."""
    first = re.split(r"; (?!allowed: )(?=\S+: )", line)[0]
    key = re.match(r"(?:ddpm[\w -]*: )?(?:[^\s'\"{[]+: )*([^\s'\"{[]+): ", first)
    allowed = re.search(r"allowed: ([^;]+)", first)
    return {"kind": kind, "key": key and key[1], "allowed": allowed and allowed[1], "error": line}


def _report(main: Callable[[], int | None], say: Callable[[str, str], None]) -> int:
    try:
        try:
            return main() or 0
        finally:
            print(end="", flush=True)  # so that a failure to write is handled here
    except UserError as error:
        kind, line = "mistake", str(error)
    except ModuleNotFoundError as error:
        if (error.name or "ddpm").startswith(("ddpm", "stages")):
            raise
        kind, line = "library", f"{error.name} is not installed: run `pip install 'ddpm-referee[train]'`"
    except KeyboardInterrupt:
        print("interrupted: run the same command again", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as error:
        if not (reason := storage_fault(error)):
            raise
        kind, line = "storage", f"{error.filename or 'the disk'}: cannot be written or read ({reason}): {FIX}"
    except RuntimeError as error:
        if not (full := memory_fault(error)):
            raise
        kind, line = "memory", full
    say(kind, printable(mask_secrets(line)))
    return EXIT_USER_ERROR


def _is_unread(descriptor: int) -> bool:
    """Whether the descriptor is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def printable(text: str) -> str:
    """``text`` on one line, with control characters escaped: file and folder names come from outside."""
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)


def mask_secrets(text: str) -> str:
    """``text`` with the user and password of every URL starred out, and its query dropped, since it may hold a token.

    Passwords may contain / ? # and @, so everything before a URL's last @ counts as user and password. If that part
    has a ? or #, the @ may belong to a token, and nothing of the address is shown.
    """
    # without the limit a long word would be scanned again from each of its letters
    return re.sub(r"(\w{1,20}://)(\S*)", lambda url: url[1] + _without_secret(url[2]), text)


def _without_secret(address: str) -> str:
    """``user:password@host/path?query`` without its secrets."""
    user, at, rest = ("", "", address) if address.startswith("/") else address.rpartition("@")
    if re.search(r"[?#]", user):
        return "***"
    return ("***@" if at else "") + re.split(r"[?#]", rest)[0]


def memory_fault(error: RuntimeError) -> str | None:
    """The line for a GPU without free memory, or None if ``error`` is about something else. CUDA, cuBLAS, cuDNN,
    cuSOLVER, NCCL and Triton word it in their own ways; a library that cannot start has usually no memory to do so."""
    worded = r"out of memory|STATUS_NOT_INITIALIZED|STATUS_\w*ALLOC\w*_FAILED|Failed to CUDA \w*alloc"
    full = re.search(f".*({worded}).*", str(error))
    return full and (
        f"the GPU's memory is full ({full[0].partition('. GPU ')[0]}): use a smaller batch_size of the stage, a larger "
        "train.accumulate, or a GPU that no other process uses; `ddpm check` shows what a training needs"
    )


def storage_fault(error: BaseException) -> str | None:
    """Why the storage failed, or None if ``error`` is about something else. Libraries word it in their own ways."""
    if isinstance(error, OSError) and error.errno in STORAGE:
        return os.strerror(error.errno)
    if isinstance(error, OSError) and error.errno:
        return None
    text = str(error)
    if code := re.search(r"os error (\d+)", text):  # safetensors
        return os.strerror(int(code[1])) if int(code[1]) in STORAGE else None
    # numpy's tofile, and ffmpeg
    worded = re.search(r"\d+ requested and \d+ written|No space left on device|File too large", text)
    return worded and worded[0]
