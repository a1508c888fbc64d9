"""Progress on a terminal of any size, and in a log."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

PROGRAM = """
import time
from ddpm.base import progress
with progress.bar({total}, "train", "{unit}", brief={brief}) as bar:
    for _ in range(8):
        time.sleep(0.05)
        bar.update({step})
"""


def program(total: int | None = 8, unit: str = "step", step: int = 1, brief: bool = False) -> list[str]:
    return [sys.executable, "-c", PROGRAM.format(total=total, unit=unit, step=step, brief=brief)]


def on_terminal(lines: int, columns: int, command: list[str]) -> list[str]:
    """What a terminal of that size (0 if it reports none) gets on stderr: one string for each state of the line."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(command, stderr=theirs)
    os.close(theirs)
    told = b""
    try:
        while block := os.read(ours, 4096):
            told += block
    except OSError:  # on Linux the end of a terminal is an error
        pass
    os.close(ours)
    assert process.wait() == 0
    return [state for state in told.decode().splitlines() if state]


@pytest.mark.parametrize(("lines", "columns"), [(0, 0), (24, 80)])
def test_a_terminal_of_any_size_shows_progress_on_one_line(lines, columns):
    shown = on_terminal(lines, columns, program())
    assert shown[0].startswith("train:   0%|")
    assert shown[-1].startswith("train: 100%|")
    assert "8/8 [00:00<00:00" in shown[-1]
    assert max(map(len, shown)) < 80
    assert len(shown) > 2


def test_a_log_has_a_line_now_and_then():
    told = subprocess.run(program(), capture_output=True, text=True, check=True).stderr
    assert [line[:11] for line in told.splitlines() if line] == ["train:   0%", "train: 100%"]


def test_bytes_are_counted_by_the_megabyte_also_without_a_total():
    assert "8.00M/8.00M [" in on_terminal(0, 0, program(8_000_000, "B", 1_000_000))[-1]
    assert "8.00MB [" in on_terminal(0, 0, program(None, "B", 1_000_000))[-1]


def test_what_takes_less_than_a_second_needs_no_brief_bar():
    assert not "".join(on_terminal(24, 80, program(brief=True))).strip()
