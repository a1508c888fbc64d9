"""The arguments of ``ddpm``: a parser of what commands.yaml lists."""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from string import Template
from typing import Any, TypeAlias, get_args

import shtab
import yaml

from ddpm.base import variant
from ddpm.base.paths import MODEL_FILE, STUDIES
from ddpm.params import presets
from ddpm.sampling.settings import Spacing

ABOUT = "Presets, checks, verdicts, sampling from a model file, tracking. DVC runs the stages."
LISTED = Path(__file__).with_name("commands.yaml")
ROWS = 8  # of the test split, if `ddpm use` is given no images
SIDES = ("left", "right", "top", "bottom", "centre")
EXIT_CODES = """\
exit codes:
  0    done
  1    gate: worse than the baseline allows; doctor: something needed is missing; study run: an experiment failed
  2    a mistake, reported in one line on stderr
  3    compare, study: both sides of every comparison score worse than a Gaussian, so that it is too early for a verdict
  75   study run: the time of --max-time is over; the same command continues
  130  stopped by Ctrl-C; any other signal N: 128 + N
  141  nobody reads the output any more, as with `| head`"""

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return minutes


def _model(text: str) -> Path:
    """A model file, or the one in a folder."""
    path = Path(text)
    return path / MODEL_FILE.name if path.is_dir() else path


def _plan(text: str) -> Path:
    """A study's file, or the one in studies/ with that name."""
    path, named = Path(text), STUDIES / f"{text}.yaml"
    return named if named.is_file() and not path.is_file() else path


TYPES: dict[str, Any] = {
    "int": int, "float": float, "path": Path, "model": _model, "plan": _plan, "positive": _positive,
    "minutes": _minutes,
}  # fmt: skip


def listed() -> dict[str, Any]:
    """The content of commands.yaml, with what the code has in place of the words with a dollar."""
    known = {
        "base": presets.BASE,
        "model": MODEL_FILE,
        "presets": ", ".join(presets.names()),
        "rows": ROWS,
        "samplers": ", ".join(variant.names("samplers")),
        "sides": ", ".join(SIDES),
        "spacings": ", ".join(get_args(Spacing)),
    }
    text = Template(LISTED.read_text(encoding="utf-8")).substitute(known)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="ddpm", description=ABOUT, epilog=EXIT_CODES, formatter_class=form)
    top.set_defaults(run="", help=top.format_help)
    added = top.add_subparsers(metavar="COMMAND")
    for name, about in listed().items():
        _add_command(added, name, about, about["examples"])
    shtab.add_argument_to(top, "--print-completion", help="the script that makes the Tab key complete `ddpm`")
    return top


def _add_command(added: Commands, name: str, about: Mapping[str, Any], examples: Mapping[str, str]) -> None:
    """A command, or a group of them. examples: of the group; a command shows its own."""
    parser = added.add_parser(
        name,
        help=about["what"],
        description=textwrap.fill(about.get("about", ""), 100),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own = [f"  {line}\n      {use}" for line, use in examples.items() if f"{line} ".startswith(f"{parser.prog} ")]
    parser.epilog = "\n".join(["examples:", *own] if own else [])
    parser.set_defaults(run=about.get("run", ""), help=parser.format_help)
    _add_options(parser, about.get("options", {}))
    if "commands" in about:
        below = parser.add_subparsers(metavar="COMMAND")
        for each, what in about["commands"].items():
            _add_command(below, each, what, examples)


def _add_options(parser: argparse._ActionsContainer, options: Mapping[str, Any]) -> None:
    for flags, given in options.items():
        if flags in ("either", "one of"):
            _add_options(parser.add_mutually_exclusive_group(required=flags == "one of"), given)
            continue
        # argparse tells a tuple, a name for each value, from a list
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        words, kind = settings.pop("complete", ""), settings.pop("type", None)
        if kind:
            settings["type"] = TYPES[kind]
        action: Any = parser.add_argument(*flags.split(), **settings)
        if words:
            action.complete = shtab.cmd(f"echo {words.replace(',', '')}")
        elif kind in ("path", "model", "plan"):
            action.complete = shtab.DIRECTORY if action.metavar == "FOLDER" else shtab.FILE


def function(run: str) -> Callable[[argparse.Namespace], int | None]:
    """What a command does: a function of commands.py or, such as ``study.push``, of another file here, which is
    imported now, so that no other command waits for it. Without a command, ``run`` is empty: print the help."""
    if not run:
        return lambda parsed: print(parsed.help(), end="")
    module, _, name = run.rpartition(".")
    found: Callable[[argparse.Namespace], int | None] = getattr(import_module(f"ddpm.cli.{module or 'commands'}"), name)
    return found
