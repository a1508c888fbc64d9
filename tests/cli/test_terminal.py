"""Help, completion and JSON: the output of ``ddpm`` for a terminal and for a program."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import metadata

import pytest

from ddpm.base import variant
from ddpm.base.errors import exit_code
from ddpm.cli import terminal
from ddpm.cli.app import app
from ddpm.params.config import FAMILIES
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


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_commands_names_and_options(tmp_path):
    script = tmp_path / "ddpm.bash"
    script.write_text(app.generate_completion(shell="bash"))  # noqa: S604
    (tmp_path / "params.yaml").touch()
    for typed, offered in {
        "ddpm pre": ["preset"],
        "ddpm compare --may-differ pre": ["precision"],
        "ddpm study status para": ["params.yaml"],
        "ddpm sample --model para": ["params.yaml"],
        "ddpm compare --may": ["--may-differ"],
    }.items():
        words = typed.split()
        line = f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _ddpm; echo ${{COMPREPLY[@]}}"
        shown = subprocess.run(["bash", "-c", f"source {script}; {line}"], text=True, capture_output=True, cwd=tmp_path)
        assert set(shown.stdout.split()) >= set(offered[:1]), (typed, shown)
        assert all(word.startswith(words[-1]) for word in shown.stdout.split()), (typed, shown)


def test_variants_are_listed_with_a_docstring_or_without_and_as_json(capsys, monkeypatch):
    assert run("variants", "--json") == 0
    assert {key: sorted(names) for key, names in json.loads(capsys.readouterr().out).items()} == {
        key: variant.names(family) for key, family in FAMILIES.items()
    }
    monkeypatch.setattr(variant, "members", lambda family: {"undocumented": ""})
    assert run("variants") == 0
    assert capsys.readouterr().out.count("\n  undocumented\n") == len(FAMILIES)


@pytest.mark.parametrize("module", ["ddpm.cli", "stages.__main__"])
def test_on_windows_the_first_import_says_where_this_runs(module):
    windows = "import sys; sys.platform = 'win32'; sys.modules['fcntl'] = None"
    ended = subprocess.run([sys.executable, "-c", f"{windows}; import {module}"], text=True, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "Windows" in ended.stderr


CODE = "from ddpm.cli import main; main()"


@pytest.mark.parametrize(
    ("arguments", "gone", "unbuffered"),
    [("--help", "stdout", ""), ("variants --json", "stdout", "1"), ("preset nothing_of_it", "stderr", "")],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(arguments, gone, unbuffered):
    read_end, write_end = os.pipe()
    os.close(read_end)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {gone: write_end}
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    ended = subprocess.run([sys.executable, "-c", CODE, *arguments.split()], env=environment, **streams)
    os.close(write_end)
    assert (ended.returncode, ended.stdout or b"", ended.stderr or b"") == (128 + signal.SIGPIPE, b"", b"")


def test_without_utf_8_a_command_prints_what_it_can():
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"}
    ended = subprocess.run([sys.executable, "-c", CODE, "variants"], env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert r"Fr\xe9chet" in ended.stdout


def test_the_version_is_that_of_the_package(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == metadata.version("ddpm-referee")


def test_another_pipe_that_breaks_is_no_reader_that_has_gone():
    def main() -> None:
        raise BrokenPipeError(errno.EPIPE, "a server has gone")

    with pytest.raises(BrokenPipeError, match="a server"):
        exit_code(main)


def test_json_has_no_place_for_what_is_no_number(capsys):
    with pytest.raises(ValueError, match="JSON"):
        terminal.answer(True, {"fd": float("nan")})
