"""The ``ddpm`` command, in this process; and what another one imports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm import cli


def run(*arguments: str | Path) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    return ended.value.code


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line on stderr of a command that must fail; with --json it is on stdout, too, and otherwise nothing."""
    assert run(*arguments) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    line = line.removeprefix("error: ")
    assert (json.loads(output.out)["error"] == line) if "--json" in arguments else (output.out == "")
    return line


def imported(*arguments: str) -> set[str]:
    """What Python imports to run that, which must succeed."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
