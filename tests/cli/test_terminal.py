"""Help, completion and JSON: the output of ``ddpm`` for a terminal and for a program."""

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib import metadata

import pytest

from ddpm.cli.app import app
from tests.command import run


def commands(group=app, words: str = "") -> dict:
    """Every command, by the words that name it."""
    if group.default_command:
        return {words.strip(): group}
    below = {name: one for name, one in group.resolved_commands().items() if not name.startswith("-")}
    return {name: one for word in below for name, one in commands(below[word], f"{words} {word}").items()}


def test_the_help_of_every_command_ends_in_examples_that_it_takes(capsys):
    for command, one in commands().items():
        examples = re.findall(r"^ +ddpm (.*)$", str(one.default_command.__doc__), re.M)
        assert examples, command
        for example in examples:
            words = shlex.split(example.partition(" | ")[0], comments=True)
            assert " ".join(words).startswith(command)
            assert app.parse_args(words)[0] is one.default_command
        assert run(*command.split(), "--help") == 0
        assert f"  ddpm {command}" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["ddpm.cli", "stages.__main__"])
def test_on_windows_the_first_import_says_where_this_runs(module):
    windows = "import sys; sys.platform = 'win32'; sys.modules['fcntl'] = None"
    ended = subprocess.run([sys.executable, "-c", f"{windows}; import {module}"], text=True, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "Windows" in ended.stderr


def test_without_utf_8_a_command_prints_what_it_can():
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", "from ddpm.cli import main; main()", "variants"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"Fr\xe9chet" in ended.stdout


def test_the_version_is_that_of_the_package(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == metadata.version("ddpm-referee")


@pytest.mark.parametrize(("arguments", "gone"), [("--help", "stdout"), ("preset nothing_of_it", "stderr")])
def test_a_reader_that_has_gone_ends_a_command_quietly(arguments, gone):
    read_end, write_end = os.pipe()
    os.close(read_end)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {gone: write_end}
    ended = subprocess.run([sys.executable, "-c", "from ddpm.cli import main; main()", *arguments.split()], **streams)
    os.close(write_end)
    assert (ended.returncode, ended.stdout or b"", ended.stderr or b"") == (128 + signal.SIGPIPE, b"", b"")
